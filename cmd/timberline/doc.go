// Timberline is the message store under a chat app: one binary for the server
// and for people who want to try it, look into it, or prove it.
//
//	timberline serve     a server: edge, projector and push in one process
//	timberline chat      talk to somebody
//	timberline help      all commands
//
// Every command has --help, with an example. Flags can also be given in the
// environment (--max-body as TIMBERLINE_MAX_BODY) and in a file (--config, with
// lines such as "max-body 65536"): flags win over the environment, and that over
// the file.
//
// The exit status is 0 after success, 1 after a failure, 2 if the command line or
// the configuration is wrong, 130 after an interrupt.
package main
