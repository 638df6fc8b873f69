// Package units tells what a load of messages costs on DynamoDB, in write and read units,
// without a DynamoDB.
//
//	load ──▶ ingest.Writer ──▶ meter ──▶ Pebble, in memory
//	             │ hint          ▲
//	             └──▶ projector ─┘
//
// Writer and projector are those of the product, and run as they do on DynamoDB: the
// meter lets each call take as long as DynamoDB would, because what gathers meanwhile
// makes the next record or checkpoint, and counts what store/dynamo would have been
// charged for the very bytes.
//
// # Limitations
//
// It counts what messages cost: log, checkpoints and timelines. What a cluster costs by
// itself (leases, signs of life, polling, logins) is in docs/operations.md. Nothing
// fails, no call is slower than another, and hints arrive at once. The ends of all
// timelines are known, as they are when a projector has run for a while.
package units
