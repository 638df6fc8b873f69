package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandIsToldOfTheServersAndItsStatusIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told")
	err := run("sh", "-c", `echo "$TIMBERLINE_DYNAMODB_ENDPOINT $TIMBERLINE_BUS $AWS_ACCESS_KEY_ID" >"$0"; exit 3`, file)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%v, want status 3", err)
	}
	told, err := os.ReadFile(file)
	if words := strings.Fields(string(told)); err != nil || len(words) != 3 || !strings.HasPrefix(words[0], "http://127.0.0.1:") || !strings.HasPrefix(words[1], "amqp://") {
		t.Errorf("it was told %q, %v", told, err)
	}
}
