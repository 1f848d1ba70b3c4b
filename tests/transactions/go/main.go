// Copies records exactly once with franz-go; ../README.md says how it is called.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	abortShare         = 0.1
	delayMax           = 30 * time.Millisecond
	pause              = 200 * time.Millisecond
	batchMax           = 50
	transactionTimeout = 10 * time.Second
)

type copier struct {
	bootstrap, name, id, input, output, group string

	attempts   int
	partitions int32
}

func say(what map[string]any) {
	line, _ := json.Marshal(what)
	fmt.Println(string(line))
}

func complain(words ...any) { fmt.Fprintln(os.Stderr, words...) }

func clientOptions(bootstrap, name, id string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.ClientID(name), kgo.TransactionalID(id), kgo.TransactionTimeout(transactionTimeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}
}

func delay() { time.Sleep(rand.N(delayMax)) }

// copied is a record as it is written: to a partition that follows from where it was read and from its number.
func (c *copier) copied(one *kgo.Record, attempt string) (*kgo.Record, error) {
	number, err := strconv.Atoi(string(one.Value))
	if err != nil {
		return nil, err
	}
	value := fmt.Sprintf("%d:%d:%s", one.Partition, number, attempt)
	partition := (one.Partition + int32(number)) % c.partitions
	return &kgo.Record{Topic: c.output, Partition: partition, Key: one.Key, Value: []byte(value)}, nil
}

// copy is one transaction. After an error only a new session helps.
func (c *copier) copy(session *kgo.GroupTransactSession, records []*kgo.Record) error {
	c.attempts++
	attempt := fmt.Sprintf("%s.%d", c.name, c.attempts)
	if err := session.Begin(); err != nil {
		return err
	}
	var failures atomic.Int32
	for _, one := range records {
		written, err := c.copied(one, attempt)
		if err != nil {
			return err
		}
		session.Produce(context.Background(), written, func(_ *kgo.Record, err error) {
			if err != nil {
				failures.Add(1)
				complain(attempt, "could not write:", err)
			}
		})
	}
	delay()
	if err := session.Client().Flush(context.Background()); err != nil {
		return err
	}
	delay()
	isToCommit := failures.Load() == 0 && rand.Float64() >= abortShare
	if isToCommit {
		say(map[string]any{"committing": attempt, "records": len(records)})
	}
	isCommitted, err := session.End(context.Background(), kgo.TransactionEndTry(isToCommit))
	if err != nil {
		return err
	}
	say(map[string]any{"ended": attempt, "committed": isCommitted})
	return nil
}

// copyWithOneSession returns when it is stopped, or with an error that only a new session helps against.
func (c *copier) copyWithOneSession(stop context.Context) error {
	session, err := kgo.NewGroupTransactSession(append(clientOptions(c.bootstrap, c.name, c.id),
		kgo.ConsumerGroup(c.group), kgo.ConsumeTopics(c.input), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer session.Close()
	for stop.Err() == nil {
		poll, cancel := context.WithTimeout(context.Background(), pause)
		fetches := session.PollRecords(poll, batchMax)
		cancel()
		fetches.EachError(func(_ string, partition int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) {
				complain(c.name, "could not read partition", partition, err)
			}
		})
		if records := fetches.Records(); len(records) > 0 {
			if err := c.copy(session, records); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *copier) copyUntilStopped() {
	stop, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for stop.Err() == nil {
		if err := c.copyWithOneSession(stop); err != nil {
			complain(c.name, "needs a new session:", err)
			time.Sleep(pause)
		}
	}
	say(map[string]any{"left": true})
}

// abandon leaves a transaction open.
func abandon(bootstrap, name, id, output string) error {
	client, err := kgo.NewClient(clientOptions(bootstrap, name, id)...)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, value := range []string{"committed", "abandoned"} {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		written := client.ProduceSync(ctx, &kgo.Record{Topic: output, Value: []byte(value)})
		if err := written.FirstErr(); err != nil {
			return err
		}
		if value == "committed" {
			if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
				return err
			}
		}
	}
	say(map[string]any{"open": true})
	select {}
}

func main() {
	mode, args := os.Args[1], os.Args[2:]
	if mode == "abandon" {
		if err := abandon(args[0], args[1], args[2], args[3]); err != nil {
			complain(err)
			os.Exit(1)
		}
		return
	}
	partitions, err := strconv.Atoi(args[6])
	if err != nil {
		complain(err)
		os.Exit(1)
	}
	c := &copier{bootstrap: args[0], name: args[1], id: args[2], input: args[3], output: args[4], group: args[5]}
	c.partitions = int32(partitions)
	c.copyUntilStopped()
}
