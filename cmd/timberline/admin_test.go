package main

import (
	"net"
	"strings"
	"testing"
)

// An edge on DynamoDB has no store in its folder that would lock it.
func TestFolderOfAnEdgeThatRunsIsRefused(t *testing.T) {
	data := t.TempDir()
	first, err := listenAdmin(data)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := listenAdmin(data); err == nil || !strings.Contains(err.Error(), data+" is in use by another process: stop that one first") {
		if err == nil {
			second.Close()
		}
		t.Errorf("a second one: %v, want that the folder is in use", err)
	}
	if conn, err := net.Dial("unix", adminPath(data)); err != nil {
		t.Errorf("the first is not to be reached any more: %v", err)
	} else {
		conn.Close()
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as if it were killed
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenAdmin(data)
	if err != nil {
		t.Fatalf("after the first was killed: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
