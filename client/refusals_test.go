package client_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"timberline/client"
	"timberline/wire"
)

func TestMoreRefusalsThanAPacketHoldsAreAllTold(t *testing.T) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		t.Run(codec.String(), func(t *testing.T) {
			address, stop := startServer()
			defer stop()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var refused atomic.Int32
			alice, err := client.Dial(address, client.Options{
				ServerKey: serverKey, Token: token("alice", "laptop"), Codec: codec,
				OnResult: func(r client.Result) {
					if errors.Is(r.Err, client.ErrRefused) {
						refused.Add(1)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer alice.Close()
			const sends = 300
			for range sends {
				tooLong := strings.Repeat("t", 65)
				if _, err := alice.SendTyped(ctx, "bob", tooLong, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			if err := alice.Flush(ctx); err != nil || refused.Load() != sends {
				t.Errorf("%d of %d sends were refused; flush: %v", refused.Load(), sends, err)
			}
		})
	}
}
