// Produces three records with keys, and consumes them in a group.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "greetings-go"

var records = []*kgo.Record{
	kgo.KeyStringRecord("alice", "hello from go"),
	kgo.KeyStringRecord("bob", "hello from go"),
	kgo.KeyStringRecord("alice", "goodbye from go"),
}

func main() {
	// One client both produces and consumes. A group that has committed nothing begins at the earliest record.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(cmp.Or(os.Getenv("BOOTSTRAP"), "localhost:9092"), ",")...),
		kgo.DefaultProduceTopic(topic),
		kgo.AllowAutoTopicCreation(),
		kgo.ConsumerGroup("readers-go"),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
		// Without a logger the client would not say that it reaches no broker.
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx := context.Background()
	// Waits until all are stored.
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		log.Fatal(err)
	}

	for seen := 0; seen < len(records); {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Printf("%s: %s\n", record.Key, record.Value)
			seen++
		})
		// After the work, so that a crash repeats records and loses none.
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			log.Fatal(err)
		}
	}
}
