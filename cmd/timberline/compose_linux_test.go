package main

import (
	"bytes"
	"crypto/rand"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v2"
)

// A composeFile is as much of Compose's format as deploy/compose.yaml uses.
type composeFile struct {
	Name     string
	Services map[string]*composeService
	Volumes  map[string]any
	Common   any `yaml:"x-timberline"`
}

type composeService struct {
	Image       string
	Build       *struct{ Context, Dockerfile string }
	Command     []string
	Restart     string
	StopGrace   string   `yaml:"stop_grace_period"`
	DependsOn   []string `yaml:"depends_on"`
	Environment map[string]string
	Ports       []string
	Volumes     []string
	Hostname    string
	User        string
	Healthcheck struct {
		Test              []string
		Interval, Timeout string
		StartPeriod       string `yaml:"start_period"`
		Disable           bool
	}
}

// readCompose reads deploy/compose.yaml, and refuses what it does not know.
func readCompose(t *testing.T) (c composeFile) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(root, "deploy/compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var merged map[string]any // what <<: brings in would be refused as said twice
	err = yaml.Unmarshal(file, &merged)
	if err == nil {
		file, err = yaml.Marshal(merged)
	}
	if err == nil {
		err = yaml.UnmarshalStrict(file, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeFileHangsTogether(t *testing.T) {
	c := readCompose(t)
	ports := make(map[string]bool)
	for name, s := range c.Services {
		switch version := regexp.MustCompile(`:\d+\.\d+\.\d+$`); {
		case s.Build != nil:
			if _, err := os.Stat(filepath.Join(root, "deploy", s.Build.Context, s.Build.Dockerfile)); err != nil || s.Image != "timberline" {
				t.Errorf("%s: image %s of %v: %v", name, s.Image, s.Build, err)
			}
			if s.Healthcheck.Disable == slices.Equal(s.Healthcheck.Test, []string{"CMD", "/timberline", "health"}) {
				t.Errorf("%s: health check %+v", name, s.Healthcheck)
			}
			if grace, err := time.ParseDuration(s.StopGrace); err != nil || grace < stopsWithin {
				t.Errorf("%s: it is killed %q after SIGTERM (%v), it takes up to %v", name, s.StopGrace, err, stopsWithin)
			}
		case !version.MatchString(s.Image):
			t.Errorf("%s: image %s, want a version", name, s.Image)
		}
		for _, other := range s.DependsOn {
			if c.Services[other] == nil {
				t.Errorf("%s depends on %s, which there is not", name, other)
			}
		}
		for _, v := range s.Volumes {
			if volume, _, _ := strings.Cut(v, ":"); !declared(c.Volumes, volume) {
				t.Errorf("%s: volume %s is not declared", name, volume)
			}
		}
		for _, p := range s.Ports {
			at := p[:strings.LastIndex(p, ":")]
			if !strings.HasPrefix(at, "127.0.0.1:") || ports[at] {
				t.Errorf("%s: port %s is not on the loopback, or another's, too", name, p)
			}
			ports[at] = true
		}
	}
	edges := [2]*composeService{c.Services["edge-1"], c.Services["edge-2"]}
	if data := [2]string{volumeAt(edges[0], "/data"), volumeAt(edges[1], "/data")}; data[0] == "" || data[1] == "" || data[0] == data[1] {
		t.Errorf("the edges keep their data in %q, want one volume each", data)
	}
	if keys := volumeAt(edges[0], "/keys"); keys == "" || keys != volumeAt(edges[1], "/keys") {
		t.Errorf("the edges do not share their keys")
	}
}

func declared(volumes map[string]any, name string) bool {
	_, ok := volumes[name]
	return ok
}

// volumeAt returns the volume that a service has at a path.
func volumeAt(s *composeService, path string) string {
	for _, v := range s.Volumes {
		if volume, at, _ := strings.Cut(v, ":"); at == path {
			return volume
		}
	}
	return ""
}

// A laptop runs the services of the compose file as processes, with the program of the
// image: its volumes are folders, its ports free ones, its hosts the test servers.
type laptop struct {
	compose  composeFile
	program  string
	volumes  string
	prefix   string // of the tables
	dynamodb func(role string) (url string)
	amqp     string
	ports    map[string]string // of the compose file's, those taken
}

// runs is a service that runs.
type runs struct {
	name   string
	cmd    *exec.Cmd
	env    []string
	stderr *bytes.Buffer
}

// native returns the process that a service is here, not started yet.
func (l *laptop) native(t *testing.T, name string) *runs {
	t.Helper()
	s := l.compose.Services[name]
	if s == nil {
		t.Fatalf("there is no service %s", name)
	}
	role := s.Command[0]
	here := func(text string) string {
		for _, v := range s.Volumes {
			volume, at, _ := strings.Cut(v, ":")
			if inside, ok := strings.CutPrefix(text+"/", at+"/"); ok {
				return filepath.Join(l.volumes, volume, inside)
			}
		}
		if host, port, err := net.SplitHostPort(text); err == nil && (host == "0.0.0.0" || host == "127.0.0.1") {
			if l.ports[port] == "" {
				t.Fatalf("%s: %s has a port that is not published", name, text)
			}
			return net.JoinHostPort("127.0.0.1", l.ports[port])
		}
		switch u, err := url.Parse(text); {
		case err != nil || u.Host == "":
			return text
		case u.Host == "dynamodb:8000" && l.compose.Services["dynamodb"] != nil:
			return l.dynamodb(role)
		case u.Host == "rabbitmq:5672" && u.User.String() == l.user("rabbitmq"):
			return l.amqp
		}
		t.Fatalf("%s: %s leads nowhere", name, text)
		return ""
	}
	r := &runs{name: name, stderr: new(bytes.Buffer)}
	l.ports["9100"] = freePort(t, "tcp") // each has its own
	for key, value := range s.Environment {
		r.env = append(r.env, key+"="+here(value))
	}
	r.env = append(r.env, "TIMBERLINE_DYNAMODB_PREFIX="+l.prefix)
	var args []string
	for _, word := range s.Command {
		args = append(args, here(word))
	}
	r.cmd = exec.Command(l.program, args...)
	r.cmd.Env, r.cmd.Stderr, r.cmd.Stdout = r.env, r.stderr, r.stderr
	return r
}

// user returns the user and password that a broker is given.
func (l *laptop) user(service string) string {
	env := l.compose.Services[service].Environment
	return env["RABBITMQ_DEFAULT_USER"] + ":" + env["RABBITMQ_DEFAULT_PASS"]
}

// once runs a service that ends.
func (l *laptop) once(t *testing.T, name string) {
	t.Helper()
	r := l.native(t, name)
	if err := r.cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, r.stderr)
	}
}

// start starts a service, and waits until its health check succeeds.
func (l *laptop) start(t *testing.T, name string) *runs {
	t.Helper()
	r := l.native(t, name)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.cmd.Process.Kill()
			r.cmd.Wait()
		}
	})
	check := l.compose.Services[name].Healthcheck.Test
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		health := exec.Command(l.program, check[2:]...)
		health.Env = r.env
		said, err := health.CombinedOutput()
		if err == nil {
			return r
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not healthy: %s\n%s", name, said, r.stderr)
		}
	}
}

// stop stops a service as Compose does.
func (r *runs) stop(t *testing.T) {
	t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", r.name, err, r.stderr)
	}
}

// newLaptop returns one whose published UDP ports are free ones here.
func newLaptop(t *testing.T) *laptop {
	t.Helper()
	l := &laptop{
		compose: readCompose(t), program: imageProgram(t), volumes: t.TempDir(),
		prefix: "compose-" + rand.Text(), ports: make(map[string]string),
	}
	for _, s := range l.compose.Services {
		for _, p := range s.Ports {
			if inside, udp := strings.CutSuffix(p[strings.LastIndex(p, ":")+1:], "/udp"); udp {
				l.ports[inside] = freePort(t, "udp")
			}
		}
	}
	return l
}
