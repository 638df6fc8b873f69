package projections

import (
	"context"

	"golang.org/x/sync/errgroup"

	"timberline/events"
)

// usersAtOnce bounds the reads that are on their way at a time for many users. One after the
// other those of a checkpoint's users would take half a minute from another machine.
var usersAtOnce = 8 // but for tests, which want one order

// ofEach reads something of each user, some at a time.
func ofEach[T any](ctx context.Context, users []events.User, read func(context.Context, events.User) (T, error)) ([]T, error) {
	all := make([]T, len(users))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(usersAtOnce)
	for i, u := range users {
		g.Go(func() (err error) {
			all[i], err = read(ctx, u)
			return err
		})
	}
	return all, g.Wait()
}

// without returns the users who are not in a map.
func without[T any](users []events.User, known map[events.User]T) (others []events.User) {
	for _, u := range users {
		if _, is := known[u]; !is {
			others = append(others, u)
		}
	}
	return others
}
