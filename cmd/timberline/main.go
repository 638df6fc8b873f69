package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
)

// A command is one word of the command line.
type command struct {
	name    string
	hidden  bool   // it is for the program itself: help does not list it
	args    string // what follows the flags
	summary string // one line
	about   string // what else there is to know
	example string
	run     func(ctx context.Context, c *call) error
}

// commands lists them, in the order in which they are told.
func commands() []*command {
	return []*command{
		serveCommand, edgeCommand, projectorCommand, relayCommand, healthCommand, tokenCommand, revokeCommand, keyCommand,
		chatCommand, sendCommand, inboxCommand, logCommand, traceCommand, verifyCommand, rebuildCommand, trimCommand, backupCommand, migrateCommand, demoCommand, soakCommand, soakDeviceCommand, benchCommand, versionCommand,
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // who asks twice does not wait
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// run runs the command that args name and returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) < 2 || strings.HasPrefix(args[1], "-") {
			usage(stdout)
			return exitOK
		}
		args = []string{args[1], "--help"}
	case "-version", "--version":
		args = []string{"version"}
	}
	for _, cmd := range commands() {
		if cmd.name == args[0] {
			err := cmd.run(ctx, newCall(cmd, args[1:], stdin, stdout, stderr))
			return status(ctx, cmd, err, stderr)
		}
	}
	fmt.Fprintf(stderr, "timberline: there is no command %q; see timberline help\n", args[0])
	return exitUsage
}

// status tells of an error and returns the exit status.
func status(ctx context.Context, cmd *command, err error, stderr io.Writer) int {
	var wrong *usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "timberline %s: %v\nsee timberline %s --help\n", cmd.name, err, cmd.name)
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintf(stderr, "timberline %s: interrupted\n", cmd.name)
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "timberline %s: %v\n", cmd.name, err)
	return exitFailed
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Timberline is the message store under a chat app.\n\nusage: timberline COMMAND [flags]\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, cmd := range commands() {
		if !cmd.hidden {
			fmt.Fprintf(t, "  %s\t%s\n", cmd.name, cmd.summary)
		}
	}
	t.Flush()
	fmt.Fprint(w, "\ntimberline COMMAND --help tells more, with an example.\n")
}
