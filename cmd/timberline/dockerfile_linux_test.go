package main

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// root is the repository's folder.
const root = "../.."

// A step is an instruction of a Dockerfile.
type step struct{ name, args string }

// dockerfile reads deploy/Dockerfile, as far as it keeps to one instruction a line.
func dockerfile(t *testing.T) (steps []step) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(root, "deploy/Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "ENTRYPOINT"}
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		if !slices.Contains(known, name) || args == "" || strings.HasSuffix(args, `\`) {
			t.Fatalf("%q: want one of %v with something behind it, all on one line", line, known)
		}
		steps = append(steps, step{name, args})
	}
	return steps
}

// all returns what follows an instruction, wherever it stands.
func all(steps []step, name string) (args []string) {
	for _, s := range steps {
		if s.name == name {
			args = append(args, s.args)
		}
	}
	return args
}

// imageBuild returns the line that builds the program, with the folder of its output.
func imageBuild(t *testing.T, steps []step) (line, out string) {
	t.Helper()
	for _, run := range all(steps, "RUN") {
		if m := regexp.MustCompile(`\bgo build .*-o (/\w+)/timberline `).FindStringSubmatch(run); m != nil {
			return run, m[1]
		}
	}
	t.Fatal("no RUN builds the program")
	return "", ""
}

var image struct {
	sync.Once
	program, said string
	err           error
}

// imageProgram builds the program as the image has it.
func imageProgram(t *testing.T) string {
	t.Helper()
	line, out := imageBuild(t, dockerfile(t))
	image.Do(func() {
		folder := filepath.Join(filepath.Dir(binary), "image") // goes with it
		build := exec.Command("sh", "-c", strings.ReplaceAll(line, out+"/", folder+"/"))
		build.Dir = root
		said, err := build.CombinedOutput()
		image.program, image.said, image.err = filepath.Join(folder, "timberline"), string(said), err
	})
	if image.err != nil {
		t.Fatalf("%s: %v\n%s", line, image.err, image.said)
	}
	return image.program
}

func TestImageIsTheProgramAlone(t *testing.T) {
	steps := dockerfile(t)
	_, out := imageBuild(t, steps)
	want := map[string]string{
		"/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
		out + "/timberline":                  "/timberline",
		out + "/data":                        "/data",
		out + "/keys":                        "/keys",
	}
	has := make(map[string]string)
	for i, s := range steps {
		if s.name != "COPY" || !strings.Contains(s.args, "--from=") {
			continue
		}
		words := slices.DeleteFunc(strings.Fields(s.args), func(w string) bool { return strings.HasPrefix(w, "--") })
		if last := all(steps[:i], "FROM"); len(words) != 2 || last[len(last)-1] != "scratch" {
			t.Fatalf("COPY %s, in the stage of %v", s.args, last)
		}
		has[words[0]] = words[1]
	}
	if len(has) != len(want) {
		t.Errorf("the image has %v, want %v", has, want)
	}
	for from, to := range want {
		if has[from] != to {
			t.Errorf("%s becomes %q, want %q", from, has[from], to)
		}
	}
	if made := strings.Join(all(steps, "RUN"), "\n"); !strings.Contains(made, out+"/data") || !strings.Contains(made, out+"/keys") {
		t.Errorf("nothing makes the folders of data and keys:\n%s", made)
	}
	var entry []string
	if err := json.Unmarshal([]byte(strings.Join(all(steps, "ENTRYPOINT"), "")), &entry); err != nil || !slices.Equal(entry, []string{"/timberline"}) {
		t.Errorf("entry point %v, %v", entry, err)
	}
	if user := all(steps, "USER"); len(user) != 1 || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user[0]) {
		t.Errorf("user %v, want the numbers of one who is not root", user)
	}
}

// The image is built by the Go that the module asks for.
func TestImageIsBuiltByOurGo(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	if from := all(dockerfile(t), "FROM"); len(from) != 2 || from[0] != "golang:"+string(version[1])+" AS build" {
		t.Errorf("built by %v, go.mod has Go %s", from, version[1])
	}
}

func TestProgramOfTheImageNeedsNothing(t *testing.T) {
	program := imageProgram(t)
	said, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(said), "timberline ") {
		t.Errorf("--version: %s, %v", said, err)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has %v: a scratch image has no libraries", p.Type)
		}
	}
}
