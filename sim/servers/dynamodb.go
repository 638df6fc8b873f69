package servers

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// StartDynamoDB starts a DynamoDB Local of one's own. What it holds is kept in the
// folder over restarts; without a folder it is in memory and ends with the process.
// Any region and credentials do: all see the same tables.
func StartDynamoDB(folder string) (*Server, error) {
	return start(program{
		name:   "DynamoDB Local",
		url:    func(addr string) string { return "http://" + addr },
		answer: answersHTTP,
		launch: launchDynamoDB,
	}, folder)
}

// cache returns the folder that "make servers" fills.
func cache() (string, error) {
	if folder := os.Getenv("TIMBERLINE_SERVERS"); folder != "" {
		return folder, nil
	}
	folder := os.Getenv("XDG_CACHE_HOME")
	if folder == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		folder = filepath.Join(home, ".cache")
	}
	return filepath.Join(folder, "timberline", "servers"), nil
}

func launchDynamoDB(folder string) (*running, error) {
	servers, err := cache()
	if err != nil {
		return nil, err
	}
	library := filepath.Join(servers, "dynamodb-local")
	jar := filepath.Join(library, "DynamoDBLocal.jar")
	if _, err := os.Stat(jar); err != nil {
		return nil, missing(jar)
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, missing("java")
	}
	command := func(port int) *exec.Cmd {
		cmd := exec.Command(java, "-Xmx1g", "-Djava.library.path="+filepath.Join(library, "DynamoDBLocal_lib"), "-jar", jar,
			"-sharedDb", "-disableTelemetry", "-port", strconv.Itoa(port))
		if folder == "" {
			cmd.Args = append(cmd.Args, "-inMemory")
		} else {
			cmd.Args = append(cmd.Args, "-dbPath", folder)
		}
		cmd.Env = append(os.Environ(), "DDB_LOCAL_TELEMETRY=0")
		return cmd
	}
	const port = 8000 // in a network of its own any is free
	main, own, err := isolate(command(port))
	if err == nil {
		return &running{main: main, network: own, dial: own.dialer(port)}, nil
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	open := freePort()
	if main, err = run(command(open)); err != nil {
		return nil, err
	}
	return &running{main: main, dial: dialer(open)}, nil
}

// answersHTTP asks for what only signed requests get.
func answersHTTP(conn net.Conn) error {
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "HTTP/1.1 400 ") {
		return fmt.Errorf("it answers %q", line)
	}
	return nil
}
