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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const commitMax = 15 * time.Second

var says sync.Mutex

type member struct {
	name     string
	topic    string
	client   *kgo.Client
	stop     context.CancelFunc
	done     chan struct{}
	mutex    sync.Mutex
	assigned map[int32]bool
	pending  map[int32][]int64 // by partition: the offsets of what is read and not committed

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

// settle says what was read of these partitions: "read" if it is committed, "uncertain" if the next member may read it, too.
func (m *member) settle(what string, partitions []int32) {
	places := [][2]int64{}
	m.mutex.Lock()
	for _, number := range partitions {
		for _, offset := range m.pending[number] {
			places = append(places, [2]int64{int64(number), offset})
		}
		delete(m.pending, number)
	}
	m.mutex.Unlock()
	if len(places) > 0 {
		m.say(map[string]any{what: places})
	}
}

// waiting tells of which partitions something is read and not committed.
func (m *member) waiting() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	all := []int32{}
	for number := range m.pending {
		all = append(all, number)
	}
	return all
}

// commit says what has been read. If the broker is gone or the generation over, it comes again; while the group
// rebalances (a cooperative member reads on, and one of the consumer protocol may have an older epoch than the broker has
// given it), it is to be said again when that is done.
func (m *member) commit(ctx context.Context) {
	all := m.waiting()
	if len(all) == 0 {
		m.isBetweenGenerations.Store(false)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitMax)
	defer cancel()
	err := m.client.CommitUncommittedOffsets(ctx)
	m.isBetweenGenerations.Store(errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.StaleMemberEpoch))
	if err == nil {
		// Of partitions that have gone meanwhile it is said to be uncertain.
		m.settle("read", all)
	} else {
		fmt.Fprintln(os.Stderr, m.name, "could not commit:", err)
	}
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

func add(bootstrap, group, topic, mode, name string, session time.Duration, instance string) (*member, error) {
	m := &member{name: name, topic: topic, assigned: map[int32]bool{}, pending: map[int32][]int64{}}
	m.done = make(chan struct{})
	gone := func(partitions map[string][]int32) {
		m.settle("uncertain", partitions[m.topic])
		m.change(partitions, false)
	}
	all := append(options(mode),
		kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID(name),
		kgo.SessionTimeout(session), kgo.HeartbeatInterval(500*time.Millisecond), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.change(partitions, true)
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.commit(ctx)
			gone(partitions)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.say(map[string]any{"lost": append([]int32{}, partitions[m.topic]...)})
			gone(partitions)
		}))
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
		m.mutex.Lock()
		fetches.EachRecord(func(one *kgo.Record) { m.pending[one.Partition] = append(m.pending[one.Partition], one.Offset) })
		m.mutex.Unlock()
		m.commit(context.Background())
		m.client.AllowRebalance()
	}
	m.commit(context.Background())
	m.client.CloseAllowingRebalance()
	m.settle("uncertain", m.waiting())
	m.say(map[string]any{"left": true})
}

func main() {
	bootstrap, group, topic, mode := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	members := map[string]*member{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := append(strings.Fields(lines.Text()), "", "")
		if words[0] == "leave" {
			members[words[1]].stop()
			continue
		}
		seconds, err := strconv.Atoi(words[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		m, err := add(bootstrap, group, topic, mode, words[1], time.Duration(seconds)*time.Second, words[3])
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
