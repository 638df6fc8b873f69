// Package edge is the UDP front end: sockets, sessions, and what a session needs
// of the rest.
//
//	datagrams ──▶ table ──▶ ingest        (sends, to be durable)
//	    ▲           │  ▲
//	    └── frames ─┘  └─── bus, timelines (pushes, heads, pages, reports)
//
// All state of all sessions is in a table, a plain value: it is handed packets,
// reports and the time, and leaves frames to be sent and tasks to be done. One
// loop owns it. Everything that waits for a disk or a signature is a task, done
// by a few workers, whose outcome comes back to the loop; so there is no
// goroutine and no lock per session.
//
// # Overload
//
// Every queue is bounded. Datagrams that find no room stay in the socket's
// buffer, and are dropped there by the kernel; sends that find no room are
// answered busy; logins and syncs likewise; pushes are dropped, and the client
// learns of them by the head in its next pong.
//
// # Strangers
//
// On a sealed socket nothing is kept for whoever has not proved its address by a
// cookie; those who have not logged in share a ring of fixed size. Each source may
// ask for so many answers a second. See docs/architecture.md, R9.
//
// # Limitations
//
// On a plain socket packets are neither sealed nor proved. New refuses no address;
// whoever opens the sockets decides who can reach them.
package edge
