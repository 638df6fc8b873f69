// Package rabbit is the bus between processes: RabbitMQ (AMQP 0-9-1).
//
//	PublishPushes ─▶ PREFIX.pushes ──slot──▶ PREFIX.edge.NAME ─▶ OnPushes
//	Confirm           direct │                       │ full, too old
//	                         │ nobody binds the slot │
//	                         ▼                       ▼
//	PublishMissed ─▶ PREFIX.offline (fanout) ─▶ PREFIX.offline ─▶ the app's own consumer
//
//	PublishHint ───▶ PREFIX.hints   (fanout) ─▶ one queue for each process ─▶ OnHint
//	distrust ──────▶ PREFIX.signals (direct) ─▶ one queue for each process ─▶ OnPushes
//
// Whoever connects declares what it needs. Prefixes keep stores and tests apart that
// share a broker; messages that name another store are ignored besides, so that after a
// restore nothing of before counts.
//
// # Pushes
//
// A message holds pushes for users of one slot; its routing key is the slot as a decimal
// number. A process binds its queue to the slots that it follows, for as long as it
// lives, and drops what is not for it. The queue is bounded, its messages live for 20 s
// and itself for 60 s without a consumer: long enough for a reconnection. What a full
// queue refuses is told to whoever published it, who then tells all edges to distrust
// their heads.
//
// # The offline queue
//
// PREFIX.offline is durable and is there for an app that tells users on another way:
// APNs, FCM, mail. It holds pushes for slots that nobody binds, those that an edge's
// queue refused or kept for too long, those that found no session on an edge, and those
// that were sent to a device and never acknowledged. So a push may be in it several
// times, and also if another edge has delivered it: look whether the device has it, and
// go by user and seq. The message is the same wherever it comes from; DecodePushes reads
// it. It is bounded: an app that does not consume it loses the oldest.
//
// # Messages
//
// The AMQP type says what a message is, and its body is (events/fields) one byte of
// format version, a CRC-32C over the type, the version and the rest, and a protobuf
// message:
//
//	pushes   { 1: store (16 bytes)  2: repeated push
//	           { 1: user  2: first seq  3: newest id (16 bytes)  4: repeated event } }
//	hint     { 1: store  2: journal  3: offset }
//	distrust { 1: store }
//
// Whoever gets a type or a version that it does not know, or a body that is damaged,
// counts and ignores it. So later versions can send signals that need no answer, such as
// "is typing": through PREFIX.signals, with a type of their own and the key "all", or a
// slot's once queues are bound to it there. Signals are never kept nor sent again.
//
// # The broker goes away
//
// Publishing never waits. What waits to be published is bounded; hints are dropped while
// the broker is away, pushes when there is no room. When it is back, exchanges, queues
// and bindings are declared again, distrust is called here, and if a push was lost here
// it is broadcast to all edges. Pushes in flight when the connection broke are published
// again and may come twice.
//
// # Concurrency
//
// A Bus is safe for concurrent use. Handlers are called in goroutines of the bus: those
// of hints, of pushes and of distrust may run at the same time. Run starts all
// goroutines and returns when they have ended.
//
// # Limitations
//
// Of an edge that died and did not come back, pushes of the last 20 s in which its queue
// lived are lost for the offline queue: RabbitMQ drops what is in a queue that expires.
// While the broker is short of memory or disk it takes in nothing from who publishes, and
// does not tell who listens: until then heads are read as on any day, every 5 minutes.
package rabbit
