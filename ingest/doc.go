// Package ingest takes a send from "authorized" to "durable".
//
//	fragments ──▶ Order ──▶ Writer ──▶ events.Log ──▶ Report
//
// An [Order] admits the sends of one session strictly by number (R3). A [Writer]
// batches admitted sends of all sessions into records of one journal, one append
// in flight while the next batch gathers (R2), and reports what is durable. A
// [Settler] answers which sends of an old session stand in the log, and closes
// it for ever.
//
// # Durability
//
// A Writer reports a send only after [events.Log.Append] said that its record is
// durable, or a conflict showed that it stands there.
//
// # Concurrency
//
// An Order is a plain value of whoever owns the session. A Writer's methods may
// be called from any goroutine; its reports come from the one that runs Run. A
// Settler may be used from many.
package ingest
