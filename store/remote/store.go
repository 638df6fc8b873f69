package remote

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"timberline/events"
	"timberline/projections"
)

// A Store is that of a server, as projections have it.
type Store struct {
	client http.Client
	meta   projections.Meta
}

// ErrNoServer says that nobody listens on the socket.
var ErrNoServer = errors.New("no server runs here")

// Open connects to a server by the Unix socket at path. The error is ErrNoServer if there is
// none. While it is open the server may end, and another begin: calls fail meanwhile, and for
// good (events.ErrFatal) if the store was restored since, and so is another.
func Open(ctx context.Context, path string) (*Store, error) {
	s := &Store{client: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: 16,
	}}}
	meta, err := call[projections.Meta](ctx, s, "Meta", none(false))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNoServer
	}
	s.meta = meta
	return s, err
}

// Close gives the connections up.
func (s *Store) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Meta returns what the store is.
func (s *Store) Meta() projections.Meta { return s.meta }

// call calls a method.
func call[A, Q any](ctx context.Context, s *Store, method string, q Q) (result A, err error) {
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(q); err != nil {
		return result, fmt.Errorf("%s: %w", method, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://store/store/"+method, &body)
	if err != nil {
		return result, err
	}
	if s.meta.Store != (events.StoreID{}) {
		r.Header.Set(storeHeader, s.meta.Store.String())
	}
	said, err := s.client.Do(r)
	if err != nil {
		return result, fmt.Errorf("ask the server: %w", err)
	}
	defer said.Body.Close()
	if said.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(said.Body, 1<<10))
		return result, fmt.Errorf("the server does not know %s; is it another version? %s: %s", method, said.Status, text)
	}
	var a answer[A]
	if err := gob.NewDecoder(said.Body).Decode(&a); err != nil {
		return result, fmt.Errorf("the server's answer to %s: %w", method, err)
	}
	if a.Failed != nil {
		return a.Result, a.Failed
	}
	return a.Result, nil
}

// ReadLog implements events.Log's. Every read is strong.
func (s *Store) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, _ events.Consistency) ([]events.Record, error) {
	return call[[]events.Record](ctx, s, "ReadLog", readLog{j, from, size})
}

// ListJournals implements events.Journals's.
func (s *Store) ListJournals(ctx context.Context, after uint64, _ events.Consistency) ([]events.Row, error) {
	return call[[]events.Row](ctx, s, "ListJournals", listJournals{after})
}

// LastCheckpoint implements projections.CheckpointReader.
func (s *Store) LastCheckpoint(ctx context.Context, shard projections.Shard, _ events.Consistency) (projections.CheckpointNumber, []byte, error) {
	last, err := call[checkpoint](ctx, s, "LastCheckpoint", lastCheckpoint{shard})
	return last.Number, last.Data, err
}

// ReadCheckpoints implements projections.CheckpointReader.
func (s *Store) ReadCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	return call[[][]byte](ctx, s, "ReadCheckpoints", readCheckpoints{shard, from, size})
}

// GetRow implements projections.Rows.
func (s *Store) GetRow(ctx context.Context, space, key string) (projections.Row, error) {
	return call[projections.Row](ctx, s, "GetRow", rowsOf{Space: space, From: key})
}

// ReadRows implements projections.Rows.
func (s *Store) ReadRows(ctx context.Context, space, from string, size int) ([]projections.Row, error) {
	return call[[]projections.Row](ctx, s, "ReadRows", rowsOf{space, from, size})
}

// PutRows implements projections.Rows.
func (s *Store) PutRows(ctx context.Context, rows []projections.Row) error {
	_, err := call[none](ctx, s, "PutRows", rows)
	return err
}

// DeleteRows implements projections.Rows.
func (s *Store) DeleteRows(ctx context.Context, prefix string) error {
	_, err := call[none](ctx, s, "DeleteRows", prefix)
	return err
}

var _ projections.Followed = (*Store)(nil)
