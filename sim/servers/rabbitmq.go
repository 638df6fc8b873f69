package servers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// StartRabbitMQ starts a RabbitMQ of one's own, with the user guest. What it holds is
// kept in the folder over restarts; without a folder it has one until Close.
func StartRabbitMQ(folder string) (*Server, error) {
	return start(program{
		name:   "RabbitMQ",
		url:    func(addr string) string { return "amqp://guest:guest@" + addr + "/" },
		answer: answersAMQP,
		launch: launchRabbitMQ,
		folder: true,
	}, folder)
}

// script finds the program itself: what a distribution puts on the path changes to
// another user first.
func script() (string, error) {
	for _, pattern := range []string{
		"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server", // Debian
		"/opt/rabbitmq/sbin/rabbitmq-server",
		"/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
		"/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return slices.Max(found), nil
		}
	}
	if found, err := exec.LookPath("rabbitmq-server"); err == nil {
		return found, nil
	}
	return "", missing("rabbitmq-server")
}

func launchRabbitMQ(folder string) (*running, error) {
	server, err := script()
	if err != nil {
		return nil, err
	}
	epmd, err := exec.LookPath("epmd")
	if err != nil {
		return nil, missing("epmd")
	}
	// The server would start an epmd that outlives it.
	names := freePort()
	register, err := run(exec.Command(epmd, "-port", fmt.Sprint(names), "-address", "127.0.0.1"))
	if err != nil {
		return nil, err
	}
	if err := listens(register, names); err != nil {
		register.kill()
		return nil, err
	}
	plugins := filepath.Join(folder, "plugins")
	if err := os.WriteFile(plugins, []byte("[].\n"), 0o600); err != nil {
		register.kill()
		return nil, err
	}
	port := freePort()
	cmd := exec.Command(server)
	cmd.Env = append(os.Environ(),
		"HOME="+folder, // its cookie is there
		"RABBITMQ_NODENAME=timberline@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprint("RABBITMQ_NODE_PORT=", port),
		fmt.Sprint("RABBITMQ_DIST_PORT=", freePort()),
		fmt.Sprint("ERL_EPMD_PORT=", names),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+filepath.Join(folder, "mnesia"),
		"RABBITMQ_LOG_BASE="+filepath.Join(folder, "log"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_PID_FILE="+filepath.Join(folder, "pid"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+plugins,
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(folder, "none"),
		"RABBITMQ_ALLOW_INPUT=1", // the script becomes the server: no process in between
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
	)
	main, err := run(cmd)
	if err != nil {
		register.kill()
		return nil, err
	}
	return &running{main: main, aside: []*process{register}, dial: dialer(port)}, nil
}

// listens waits until a process listens on a port.
func listens(p *process, port int) error {
	for end := time.Now().Add(startTime); time.Now().Before(end) && !p.ended(); time.Sleep(10 * time.Millisecond) {
		if conn, err := dialer(port)(); err == nil {
			conn.Close()
			return nil
		}
	}
	return fmt.Errorf("%s does not listen; it said last:\n%s", p.cmd.Path, p.said)
}

// answersAMQP begins a conversation, which the server goes on with only when it has
// started.
func answersAMQP(conn net.Conn) error {
	if _, err := conn.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return err
	}
	var frame [1]byte
	if _, err := io.ReadFull(conn, frame[:]); err != nil {
		return err
	}
	if frame[0] != 1 { // a method
		return errors.New("it does not speak AMQP 0-9-1")
	}
	return nil
}
