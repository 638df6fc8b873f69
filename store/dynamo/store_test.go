package dynamo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"timberline/events"
	"timberline/events/logtest"
	"timberline/migrations"
	"timberline/projections"
	"timberline/projections/storetest"
	"timberline/sim/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

var (
	stores atomic.Int64
	run    = rand.Uint32() // a server that is named may hold the stores of other runs
)

// options name a store that there is not yet. The server may be slow: it shares the
// machine with the tests.
func options(t testing.TB) Options {
	return Options{
		AttemptTimeout: 30 * time.Second,
		Deadline:       time.Minute,
		Prefix:         fmt.Sprintf("test-%08x-%d", run, stores.Add(1)),
		AWS: aws.Config{
			Region:       "us-east-1",
			BaseEndpoint: aws.String(servers.DynamoDB(t).URL()),
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
			}),
		},
	}
}

// A place is the tables of a store.
type storePlace struct {
	o     Options
	store *Store
}

func newPlace(t *testing.T) *storePlace { return newPlaceOf(t, 1) }

func newPlaceOf(t *testing.T, shards uint32) *storePlace {
	p := &storePlace{o: options(t)}
	if err := CreateTables(t.Context(), p.o); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), p.o, projections.Meta{Store: events.StoreID{1}, Shards: shards}); err != nil {
		t.Fatal(err)
	}
	m, err := NewMigrations(p.o, shards)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(migrations.Up(t.Context(), m, time.Now, nil), m.Close()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *storePlace) open() (s *Store, err error) {
	p.store, err = Open(context.Background(), p.o)
	return p.store, err
}

// Crash drops the client: calls may be under way in it.
func (p *storePlace) Crash() error { return p.store.Close() }

func (p *storePlace) Close() error { return p.store.Close() }

type logPlace struct{ *storePlace }

func (p logPlace) Open() (logtest.Engine, error) { return p.open() }

type timelinePlace struct{ *storePlace }

func (p timelinePlace) Open() (storetest.Store, error) { return p.open() }

func TestStoreIsALog(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Place { return logPlace{newPlace(t)} })
}

func TestStoreKeepsTimelines(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place { return timelinePlace{newPlace(t)} })
}

// openNew opens a new store, for one test.
func openNew(t *testing.T, change ...func(*Options)) *Store {
	t.Helper()
	p := newPlace(t)
	return openAs(t, p, change...)
}

// openAs opens the store of a place with other options.
func openAs(t *testing.T, p *storePlace, change ...func(*Options)) *Store {
	t.Helper()
	o := p.o
	for _, c := range change {
		c(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
