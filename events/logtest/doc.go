// Package logtest is the contract of events.Log and events.Journals as a test
// that every engine runs.
//
//	func TestStoreIsALog(t *testing.T) {
//		logtest.Run(t, func(t *testing.T) logtest.Place { … })
//	}
//
// It crashes the engine after every kind of write and reads what is left; has
// appends refused, landing without an answer, or landing when their caller has
// gone on; and lets many callers append at one offset at a time. Its own tests
// show that it finds engines which acknowledge before a write is durable, which
// take an offset for free because they saw nothing there, and which overwrite.
package logtest
