// Package dynamo is the storage engine of many machines: log, journal rows, checkpoints,
// timeline items and leases in tables of DynamoDB.
//
// # Tables
//
// Each table has a partition key and a sort key; PREFIX is Options.Prefix.
//
//	PREFIX-log          journal (text)  offset (number)  record (binary)
//	PREFIX-journals     kind = journal  number           row (binary)
//	PREFIX-checkpoints  shard (number)  n (number)       checkpoint (binary)
//	PREFIX-timelines    user (text)     last (number)    item (binary)      stream of new images
//	                    version/user                     quiet (true)       what is passed over in the stream
//	PREFIX-leases       kind (text)     name (text)      owner, counter, place
//	PREFIX-rows         space (text)    key (text)       row (binary), n    what other projections keep
//	PREFIX-meta         what = store    number = 0       value (binary)     what the store is
//	                    what = migration  number         value (binary)     the record of a step
//
// Capacity is on demand. All but timelines and leases, which can be made again from the
// others, are protected from deletion and keep backups for point-in-time recovery.
// Binary values are what events and projections sealed; this package looks into none of
// them but its own.
//
// # Durability
//
// DynamoDB acknowledges what is durable, and shows nothing else: strong and latest reads
// are the same here, consistent ones. Relaxed reads are eventually consistent, cost half,
// and may lag.
//
// A checkpoint and its items are no transaction: Commit puts the checkpoint, then the
// items, and says nil when all are there. After any error some may be; see
// projections.Checkpoints.
//
// # Calls
//
// A call is tried again, after a random wait, while it is throttled, fails or gets no
// answer: up to Options.Attempts times and within Options.Deadline. An attempt that got no
// answer may have landed. So an append may find its own record at its offset, and a commit
// its own checkpoint at its number: that is a conflict here, and the caller compares.
// What no retry will mend (no access, no table, too large) wraps events.ErrFatal and says
// what to do.
//
// # Concurrency
//
// A Store is safe for concurrent use. It has no goroutines of its own between calls; a
// commit has up to 8 batches on their way at a time.
//
// # Limitations
//
// An item has at most 400 KB, one partition takes 1,000 write units a second: a journal's
// records, a shard's checkpoints and a user's items are a partition each.
package dynamo
