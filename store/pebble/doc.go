// Package pebble is the storage engine of one machine: log, journal rows,
// checkpoints and timeline items in one Pebble database, in the process.
//
// # Keys
//
// Numbers are big-endian, so that keys sort as numbers do.
//
//	"m"                                     what the store is (Meta, edge tag, format; while it is restored: how far)
//	"j" number(8)                           a journal's row
//	"l" length(1) journal offset(8)         a record
//	"c" shard(4) n(8)                       a checkpoint
//	"t" user 0 last-seq(8)                  a timeline item of version 0
//	"T" version(4) user 0 last-seq(8)       one of another version
//	"p" space 0 key                         a row of another projection: checkpoint(8), value
//	"v" number(8)                           the record of a migration step
//
// Values are what events and projections sealed; this package looks into none of
// them but its own.
//
// A folder of format n has the migration steps 1 to n applied. Open applies those that are
// pending, and refuses a folder that has later ones.
//
// # Durability
//
// Pebble makes a batch visible before it is synced. So each batch is numbered as
// it is applied, a sync covers every batch before it (there is one write-ahead
// log), and a strong read waits until everything that was applied when it read
// is durable (R8). One sync serves all who wait for one at that time; items that nobody is
// told of are synced by who comes next, if somebody does soon. A sync that fails ends the
// process: see Options.OnFatal.
//
// # Damage
//
// A value that is damaged on the disk is an error that wraps events.ErrCorrupt and names
// the file, at Open or when it is read. Store.Scrub looks at all that is stored, also at
// what is not read. What a crash has torn is no damage: it was acknowledged to nobody. Up to
// where nothing can be torn the file "durable" says: durable.go. A crash of the machine may
// leave an older one, and a backup has none. Of the last few batches behind what it says
// nobody can tell whether they were torn; they are taken for that, and so is a log that was
// cut off there.
//
// A folder that has other things than a store, or a part of one, is refused and left as it
// is: new.go says how it is told from one in which a store was being made.
//
// # Concurrency
//
// A Store is safe for concurrent use until Close.
package pebble
