// Members of a group with franz-go; ../README.md says how they are told what to do.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var says sync.Mutex

type member struct {
	name     string
	topic    string
	client   *kgo.Client
	stop     context.CancelFunc
	done     chan struct{}
	mutex    sync.Mutex
	assigned map[int32]bool

	isBetweenGenerations atomic.Bool
}

func (m *member) say(what map[string]any) {
	what["member"] = m.name
	line, _ := json.Marshal(what)
	says.Lock()
	defer says.Unlock()
	fmt.Println(string(line))
}

// change notes which partitions have come or gone.
func (m *member) change(partitions map[string][]int32, isHere bool) {
	m.mutex.Lock()
	for _, number := range partitions[m.topic] {
		if isHere {
			m.assigned[number] = true
		} else {
			delete(m.assigned, number)
		}
	}
	all := []int{}
	for number := range m.assigned {
		all = append(all, int(number))
	}
	m.mutex.Unlock()
	sort.Ints(all)
	m.say(map[string]any{"assigned": all})
}

// commit says what has been read. If the broker is gone or the generation over, it comes again; while the group
// rebalances (a cooperative member reads on, and one of the consumer protocol may have an older epoch than the broker has
// given it), it is to be said again when that is done.
func (m *member) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := m.client.CommitUncommittedOffsets(ctx)
	m.isBetweenGenerations.Store(errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.StaleMemberEpoch))
}

func options(mode string) []kgo.Opt {
	switch mode {
	case "cooperative":
		return []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}
	case "consumer":
		return []kgo.Opt{kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()}
	default:
		return []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}
	}
}

func add(bootstrap, group, topic, mode, name, instance string) (*member, error) {
	m := &member{name: name, topic: topic, assigned: map[int32]bool{}, done: make(chan struct{})}
	gone := func(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) { m.change(partitions, false) }
	all := append(options(mode),
		kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID(name),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.change(partitions, true)
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			m.commit(ctx)
			gone(ctx, client, partitions)
		}),
		kgo.OnPartitionsLost(gone))
	if instance != "" {
		all = append(all, kgo.InstanceID(instance))
	}
	client, err := kgo.NewClient(all...)
	m.client = client
	return m, err
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil || m.isBetweenGenerations.Load() {
		poll, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		fetches := m.client.PollFetches(poll)
		cancel()
		read := [][2]int64{}
		fetches.EachRecord(func(one *kgo.Record) { read = append(read, [2]int64{int64(one.Partition), one.Offset}) })
		if len(read) > 0 {
			m.say(map[string]any{"read": read})
		}
		if len(read) > 0 || m.isBetweenGenerations.Load() {
			m.commit(context.Background())
		}
		m.client.AllowRebalance()
	}
	m.commit(context.Background())
	m.client.CloseAllowingRebalance()
	m.say(map[string]any{"left": true})
}

func main() {
	bootstrap, group, topic, mode := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	members := map[string]*member{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := append(strings.Fields(lines.Text()), "")
		if words[0] == "leave" {
			members[words[1]].stop()
			continue
		}
		m, err := add(bootstrap, group, topic, mode, words[1], words[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var ctx context.Context
		ctx, m.stop = context.WithCancel(context.Background())
		members[words[1]] = m
		go m.run(ctx)
	}
	for _, m := range members {
		m.stop()
		<-m.done
	}
}
