package remote

import (
	"context"
	"encoding/gob"
	"fmt"
	"net/http"

	"timberline/events"
	"timberline/projections"
)

// Offered is what a server has to offer.
type Offered interface {
	projections.Followed
	Meta() projections.Meta
}

// Handler offers a store to projections, below /store/.
func Handler(s Offered) http.Handler { return handler(s, projections.OfProjection) }

// durable is how all is read, whatever the caller wants: another process outlives a crash
// that takes away what was not durable, and would go on with it (R8).
const durable = events.Strong

// handler offers the rows of the spaces that are open.
func handler(s Offered, open func(space string) bool) http.Handler {
	mux := http.NewServeMux()
	offer(mux, s, "Meta", func(context.Context, none) (projections.Meta, error) { return s.Meta(), nil })
	offer(mux, s, "ReadLog", func(ctx context.Context, q readLog) ([]events.Record, error) {
		return s.ReadLog(ctx, q.Journal, q.From, q.Size, durable)
	})
	offer(mux, s, "ListJournals", func(ctx context.Context, q listJournals) ([]events.Row, error) {
		return s.ListJournals(ctx, q.After, durable)
	})
	offer(mux, s, "LastCheckpoint", func(ctx context.Context, q lastCheckpoint) (c checkpoint, err error) {
		c.Number, c.Data, err = s.LastCheckpoint(ctx, q.Shard, durable)
		return c, err
	})
	offer(mux, s, "ReadCheckpoints", func(ctx context.Context, q readCheckpoints) ([][]byte, error) {
		return s.ReadCheckpoints(ctx, q.Shard, q.From, q.Size)
	})
	r := rows{s, open}
	offer(mux, s, "GetRow", r.get)
	offer(mux, s, "ReadRows", r.read)
	offer(mux, s, "PutRows", r.put)
	offer(mux, s, "DeleteRows", r.delete)
	return mux
}

// offer answers calls of a method.
func offer[Q, A any](mux *http.ServeMux, s Offered, method string, do func(context.Context, Q) (A, error)) {
	mux.HandleFunc("POST /store/"+method, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := gob.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var result A
		err := another(s, r.Header.Get(storeHeader))
		if err == nil {
			result, err = do(r.Context(), q)
		}
		gob.NewEncoder(w).Encode(answer[A]{result, failureOf(err)}) // to one who is gone: nothing is lost
	})
}

// another says that a caller has opened another store than s: one that was restored since.
// What it is about to write follows from checkpoints that are no more.
func another(s Offered, opened string) error {
	if is := s.Meta().Store.String(); opened != "" && opened != is {
		return fmt.Errorf("%w: the server has the store %s, and not %s any more, as after a restore: open it anew", events.ErrFatal, is, opened)
	}
	return nil
}

// rows are those of a store that are offered.
type rows struct {
	store projections.Rows
	open  func(space string) bool
}

// refuse says that a space is not open.
func (r rows) refuse(space string) error {
	if r.open(space) {
		return nil
	}
	return fmt.Errorf("%w: rows of %q are not those of a projection", events.ErrFatal, space)
}

func (r rows) get(ctx context.Context, q rowsOf) (projections.Row, error) {
	if err := r.refuse(q.Space); err != nil {
		return projections.Row{}, err
	}
	return r.store.GetRow(ctx, q.Space, q.From)
}

func (r rows) read(ctx context.Context, q rowsOf) ([]projections.Row, error) {
	if err := r.refuse(q.Space); err != nil {
		return nil, err
	}
	return r.store.ReadRows(ctx, q.Space, q.From, q.Size)
}

func (r rows) put(ctx context.Context, all []projections.Row) (none, error) {
	for i := range all {
		if err := r.refuse(all[i].Space); err != nil {
			return none(false), err
		}
	}
	return none(false), r.store.PutRows(ctx, all)
}

// delete takes a text with which only names of one projection's spaces begin: one that is a
// name itself when it goes on.
func (r rows) delete(ctx context.Context, prefix string) (none, error) {
	if err := r.refuse(prefix + "*"); err != nil {
		return none(false), err
	}
	return none(false), r.store.DeleteRows(ctx, prefix)
}
