package servers

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// toBeKilled is the process of the test below: it starts servers and waits.
func toBeKilled(folder string) {
	dynamo, err := StartDynamoDB("")
	if err != nil {
		panic(err)
	}
	rabbit, err := StartRabbitMQ(folder)
	if err != nil {
		panic(err)
	}
	fmt.Println("started", dynamo.running.main.cmd.Process.Pid, rabbit.running.main.cmd.Process.Pid,
		rabbit.running.aside[0].cmd.Process.Pid)
	time.Sleep(time.Minute)
}

func TestServersEndWithAProcessThatIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedFolder+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var pids [3]int
	lines := bufio.NewScanner(out)
	for pids[0] == 0 && lines.Scan() {
		fmt.Sscanf(lines.Text(), "started %d %d %d", &pids[0], &pids[1], &pids[2])
	}
	if pids[0] == 0 {
		t.Fatal("it has started no servers")
	}
	cmd.Process.Kill()
	for _, pid := range pids {
		end := time.Now().Add(patience)
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			if time.Now().After(end) {
				t.Errorf("process %d outlives the one that has started it", pid)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// zombie reports whether a process has ended, though nobody has asked how.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestDynamoDBHasANetworkOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give it one")
	}
	s := DynamoDB(t)
	if s.running == nil {
		t.Skip("it was named by the environment")
	}
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", s.running.main.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if s.running.network == nil {
		t.Skip("this system does not allow root to give it one")
	}
	if its == mine {
		t.Error("it listens on all interfaces of the machine")
	}
	threads, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, thread := range threads {
		if at, err := os.Readlink(thread); err == nil && at != mine {
			t.Errorf("a thread was left in %s", at)
		}
	}
}
