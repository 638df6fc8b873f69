// Command run starts a DynamoDB Local, in memory, and a RabbitMQ, runs a command that
// finds them by the environment, and stops both when that has ended:
//
//	go run ./sim/servers/run bin/timberline soak --nodes 2
//
// The command is told TIMBERLINE_DYNAMODB_ENDPOINT, TIMBERLINE_DYNAMODB_REGION,
// TIMBERLINE_BUS, and credentials of AWS that are none. The exit status is the
// command's. An interrupt goes to the command: it ends what it does, and then the
// servers are stopped.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"timberline/sim/servers"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: run COMMAND [ARGUMENTS]")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		os.Exit(exit.ExitCode()) // the command has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run starts the servers and the command, and stops the servers.
func run(name string, args ...string) (err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	dynamo, err := servers.StartDynamoDB("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dynamo.Close()) }()
	rabbit, err := servers.StartRabbitMQ("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rabbit.Close()) }()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(),
		"TIMBERLINE_DYNAMODB_ENDPOINT="+dynamo.URL(), "TIMBERLINE_DYNAMODB_REGION=us-east-1", "TIMBERLINE_BUS="+rabbit.URL(),
		"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none",
	)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// At a terminal it would be interrupted twice.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			cmd.Process.Signal(s)
		case err := <-ended:
			return err
		}
	}
}
