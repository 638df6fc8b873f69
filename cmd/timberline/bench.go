package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	runtimepprof "runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"timberline/cmd/bench"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/proxy"
	"timberline/wire"
	"timberline/wire/sealed"
	"timberline/wire/udp"
)

var benchCommand = &command{
	name:    "bench",
	args:    "[idle|sync|units|replay|rebuild|all]",
	summary: "load a server with simulated clients, and measure it beside the machine's limits",
	about: `
It starts a server as a process of its own on a folder of its own, has simulated
clients send to it over real sockets on the loopback, and reports what was
acknowledged and delivered, and how fast. Before and after, it measures what the
machine can do: round trips of a bare UDP echo between two processes with the same
sockets, batches and packet size, and syncs of a file on the server's disk. Then it
reads every timeline back: if anything acknowledged is lost, doubled or out of order
the exit status is 1.

Sender i writes to its neighbour, i xor 1. Offline receivers never log in. One send
is in a datagram. With --rate 0 each session sends whenever its window has room; with
another rate sends are due at times that do not wait for the server, and their
latency counts from then, also of those that are answered after the measured part.
What was due and found no room in its window until then is told as unsent.

  bench idle   logins a second, and the memory of a session that does nothing
  bench sync   how long a device takes that is --entries messages behind
  bench units  what messages cost on DynamoDB, in write and read units: writer and
               projector at --rate (default 10,000 a second) on a store in memory that
               takes as long as DynamoDB and counts what that would charge
  bench replay how fast the timelines of --messages are made again from the log, and
               verified, beside what Pebble alone writes of the same items
  bench rebuild  what senders notice of a rebuild at --rebuild-rate events a second:
               rounds of --rate sends a second (default 2,000) without and with it, in turn,
               on a server that has --messages already
  bench all    what a server is held to, medians of three runs, in one table: some
               ten minutes

Progress goes to the standard error.`,
	example: "timberline bench --sessions 1000 --window 32 --payload corpus --duration 10s --json",
	run:     runBench,
}

// A benchConfig is what a bench can be told.
type benchConfig struct {
	mode        string // "", idle, sync, units, replay, rebuild, all, echo
	sessions    int
	sockets     int
	window      int
	payload     string
	rate        float64
	codec       string
	plain       bool
	receivers   string
	faults      proxy.Faults
	duration    time.Duration
	serverCores int
	cores       bench.Cores
	entries     int
	messages    int
	rest        time.Duration
	rebuildRate float64
	rounds      int
	folder      string
	profile     string
	json        bool
	unitsConfig

	monitor string // of the server
}

const defaultSessions = 1000

func (b *benchConfig) define(c *call) {
	c.flags.IntVar(&b.sessions, "sessions", defaultSessions, "`number` of sessions that send")
	c.flags.IntVar(&b.sockets, "sockets", 2, "`number` of sockets that they share")
	c.flags.IntVar(&b.window, "window", 32, "`number` of sends of a session without an answer, 1 to 1024")
	c.flags.StringVar(&b.payload, "payload", "corpus", "`bodies`: fixed:BYTES, corpus:FILE, or corpus, a sample of real chat")
	c.flags.Float64Var(&b.rate, "rate", 0, "`sends` a second in all, in an open loop; 0: a closed loop")
	c.flags.StringVar(&b.codec, "codec", "protobuf", "`encoding` of the packets: protobuf or json")
	c.flags.BoolVar(&b.plain, "plain", false, "do not seal packets")
	c.flags.StringVar(&b.receivers, "receivers", "offline", "`state` of who receives: online (logged in) or offline")
	c.flags.Float64Var(&b.faults.Loss, "loss", 0, "`part` of the packets that are lost, in each direction")
	c.flags.Float64Var(&b.faults.Duplicate, "duplicate", 0, "`part` of the packets that arrive twice")
	c.flags.Float64Var(&b.faults.Reorder, "reorder", 0, "`part` of the packets that later ones overtake")
	c.flags.DurationVar(&b.duration, "duration", 10*time.Second, "how long to measure, after a quarter of it, at most 2 s, of warming up")
	c.flags.IntVar(&b.serverCores, "server-cores", 0, "`number` of cores that the server has for itself, the clients having the others (Linux); 0: all share all")
	c.flags.IntVar(&b.entries, "entries", 10_000, "bench sync: `number` of messages that a device is behind")
	c.flags.IntVar(&b.messages, "messages", 1_000_000, "bench replay, bench rebuild: `number` of messages in the log")
	c.flags.Float64Var(&b.rebuildRate, "rebuild-rate", 3_000, "bench rebuild: `events` a second that a rebuild goes through at most; 0: as many as can be")
	c.flags.IntVar(&b.rounds, "rounds", 5, "bench rebuild: `number` of rounds, each without a rebuild and then with one")
	c.flags.DurationVar(&b.rest, "idle", 20*time.Second, "bench idle: how long sessions are left alone before their memory is measured")
	c.flags.StringVar(&b.folder, "folder", "", "`folder` in which to make the server's; default: the system's for temporary files. It should be on a real disk")
	c.flags.StringVar(&b.profile, "profile", "", "write CPU profiles of the measured part to `PREFIX`-server.pprof and PREFIX-clients.pprof")
	b.unitsConfig.define(c)
	c.flags.BoolVar(&b.json, "json", false, "print one line of JSON")
}

func (b *benchConfig) check() error {
	switch {
	case b.sessions < 1 || b.sessions > 200_000:
		return wrong("sessions", "is %d, want 1 to 200000", b.sessions)
	case b.sockets < 1 || b.sockets > 1000:
		return wrong("sockets", "is %d, want 1 to 1000", b.sockets)
	case b.window < 1 || b.window > 1024:
		return wrong("window", "is %d, want 1 to 1024", b.window)
	case b.mode != "sync" && b.sockets > b.sessions:
		return wrong("sockets", "is %d, want 1 to the number of sessions, which is %d", b.sockets, b.sessions)
	case b.rate != 0 && !(b.rate >= 0.001 && b.rate <= 1e6):
		return wrong("rate", "is %v, want 0, or 0.001 to 1000000 sends a second", b.rate)
	case b.codec != "protobuf" && b.codec != "json":
		return wrong("codec", "is %q, want protobuf or json", b.codec)
	case b.receivers != "online" && b.receivers != "offline":
		return wrong("receivers", "is %q, want online or offline", b.receivers)
	case b.receivers == "online" && b.sessions%2 != 0:
		return wrong("sessions", "is %d, want an even number: each writes to its neighbour", b.sessions)
	case b.duration < time.Second || b.duration > time.Hour:
		return wrong("duration", "is %v, want 1s to 1h", b.duration)
	case b.serverCores < 0:
		return wrong("server-cores", "is %d, want 0 or more", b.serverCores)
	case b.rest < 0 || b.rest > time.Hour:
		return wrong("idle", "is %v, want 0s to 1h", b.rest)
	case b.entries < 1 || b.entries > 10_000_000:
		return wrong("entries", "is %d, want 1 to 10000000", b.entries)
	}
	for name, part := range map[string]float64{"loss": b.faults.Loss, "duplicate": b.faults.Duplicate, "reorder": b.faults.Reorder} {
		if !(part >= 0 && part <= 0.9) {
			return wrong(name, "is %v, want 0 to 0.9", part)
		}
	}
	return nil
}

func runBench(ctx context.Context, c *call) error {
	var b benchConfig
	b.define(c)
	words, err := c.parseWords(1)
	if err != nil {
		return err
	}
	b.mode = strings.Join(words, " ")
	if !slices.Contains([]string{"", "idle", "sync", "units", "replay", "rebuild", "all", "echo"}, b.mode) {
		return &usageError{fmt.Errorf("there is no bench %q: want idle, sync, units, replay, rebuild, all or none", b.mode)}
	}
	if !c.given["sockets"] {
		b.sockets = min(b.sockets, b.sessions)
	}
	if err := b.check(); err != nil {
		return err
	}
	if b.mode == "echo" {
		return runEcho(ctx, c)
	}
	payload, err := bench.ParsePayload(b.payload)
	if err != nil {
		return &usageError{fmt.Errorf("--payload: %w", err)}
	}
	switch b.mode {
	case "all":
		return b.benchAll(ctx, c)
	case "units":
		return b.units(ctx, c, payload)
	case "replay":
		return b.replay(ctx, c, payload)
	}
	if b.mode == "rebuild" {
		if err := b.checkRebuild(); err != nil {
			return err
		}
	}
	return b.run(ctx, c, payload)
}

// run starts server and echo, and benches.
func (b *benchConfig) run(ctx context.Context, c *call, payload bench.Payload) (err error) {
	folder, err := os.MkdirTemp(b.folder, "timberline-bench-")
	if err != nil {
		return wrong("folder", "is of no use: %v", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if b.cores, err = bench.SplitCores(b.serverCores); err != nil {
		return err
	}
	data := filepath.Join(folder, "data")
	if b.mode == "rebuild" {
		if err := b.fill(ctx, c, data, payload); err != nil {
			return err
		}
	}
	server, err := startChild(ctx, data, b.cores, b.serverFlags()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	b.monitor = server.monitor
	cfg, err := b.load(server, payload)
	if err != nil {
		return err
	}
	cfg.Progress = func(text string) { fmt.Fprintf(c.stderr, "%s\n", text) }
	machine := bench.Machine{PID: server.cmd.Process.Pid, Folder: folder}
	switch b.mode {
	case "idle":
		err = b.idle(ctx, c, cfg, machine, server.data)
	case "sync":
		err = b.sync(ctx, c, cfg)
	case "rebuild":
		err = b.rebuild(ctx, c, cfg, machine, data)
	default:
		err = b.send(ctx, c, cfg, machine)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, server.lastWords())
	}
	return nil
}

// serverFlags returns what the server is told: the clients are of one address, and
// are to be limited by nothing but its strength.
func (b *benchConfig) serverFlags() []string {
	flags := []string{"--source-rate", "1000000", "--session-rate", "1000000", "--max-sessions", "400000", "--half-open", "65536"}
	if b.plain {
		flags = append(flags, "--listen-plain", "127.0.0.1:0")
	}
	return flags
}

// load returns what the simulated clients do.
func (b *benchConfig) load(server *childServer, payload bench.Payload) (cfg bench.Config, err error) {
	cfg = bench.Config{
		Server: server.addr, Plain: b.plain, Payload: payload, Faults: b.faults,
		Sessions: b.sessions, Sockets: b.sockets, Window: b.window, Rate: b.rate,
		Online: b.receivers == "online", Duration: b.duration,
	}
	if b.codec == "json" {
		cfg.Codec = wire.JSON
	}
	if b.plain {
		cfg.Server = server.plain
	} else if cfg.Key, err = sealed.ParseKey(server.key); err != nil {
		return cfg, err
	}
	key, err := auth.LoadKey(keyPath(server.data))
	if err != nil {
		return cfg, err
	}
	cfg.Token = func(user, device string) string {
		token, err := auth.Sign(key, fresh(auth.Identity{User: events.User(user), Device: events.Device(device)}, tokenLife))
		if err != nil {
			panic(err) // the names are good
		}
		return token
	}
	return cfg, nil
}

// send puts the load on the server.
func (b *benchConfig) send(ctx context.Context, c *call, cfg bench.Config, m bench.Machine) error {
	echo, err := startEcho(ctx, b.cores)
	if err != nil {
		return err
	}
	defer echo.stop()
	m.Echo = echo.addr
	if b.profile != "" {
		m.During = func(d time.Duration) error { return b.writeProfiles(ctx, m, d) }
	}
	report, err := bench.Run(ctx, cfg, m)
	if report == nil {
		return err
	}
	if b.json {
		return errors.Join(err, c.printJSON(report))
	}
	return errors.Join(err, printBench(c.stdout, report))
}

// writeProfiles profiles server and clients for some time.
func (b *benchConfig) writeProfiles(ctx context.Context, m bench.Machine, d time.Duration) error {
	mine, err := os.Create(b.profile + "-clients.pprof")
	if err != nil {
		return err
	}
	if err := runtimepprof.StartCPUProfile(mine); err != nil {
		return errors.Join(err, mine.Close())
	}
	defer mine.Close()
	defer runtimepprof.StopCPUProfile()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", b.monitor, int(d.Seconds()))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	profile, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server's profile: %s: %s", answer.Status, profile)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(b.profile+"-server.pprof", profile, 0o600)
}

func (b *benchConfig) idle(ctx context.Context, c *call, cfg bench.Config, m bench.Machine, data string) error {
	report, err := bench.Idle(ctx, cfg, m, b.rest, func() error { return collectServer(ctx, data) })
	if err != nil {
		return err
	}
	if b.json {
		return c.printJSON(report)
	}
	return c.print("%d sessions: %.0f logins/s, %.0f bytes of the server's memory each (%d MiB, then %d MiB)\n",
		report.Sessions, report.LoginsPerS, report.BytesPerSession, report.RSS0>>20, report.RSS>>20)
}

func (b *benchConfig) sync(ctx context.Context, c *call, cfg bench.Config) error {
	report, err := bench.Sync(ctx, cfg, b.entries)
	if err != nil {
		return err
	}
	if b.json {
		return c.printJSON(report)
	}
	return c.print("a device %d messages behind is current after %.1f ms: %.0f entries/s (median of %d)\n",
		report.Entries, report.Ms, report.EntriesPerS, report.Runs)
}

// collectServer makes a server give back to the system what memory it can.
func collectServer(ctx context.Context, data string) error {
	answer, err := askAdmin(ctx, http.MethodPost, data, "/collect", nil, nil)
	if err != nil {
		return err
	}
	return answer.Close()
}

// printBench prints a report as a table.
func printBench(w io.Writer, r *bench.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\t\n", name, fmt.Sprintf(format, args...))
	}
	times := func(x bench.Times) string { return fmt.Sprintf("%.2f / %.2f / %.2f ms", x.P50, x.P99, x.P999) }
	row("acked", "%.0f /s", r.AckedPerS)
	row("ack p50 / p99 / p99.9", "%s", times(r.Ack))
	if r.Delivery != nil {
		row("delivered", "%.0f /s", r.DeliveredPerS)
		row("delivery p50 / p99 / p99.9", "%s", times(*r.Delivery))
	}
	row("busy", "%d", r.Busy)
	if r.Unsent > 0 {
		row("due, and never sent", "%d: above as if answered at the end", r.Unsent)
	}
	row("server", "%.1f s CPU, %d MiB at the most", r.Server.CPU, r.Server.PeakRSS>>20)
	row("echo", "%.0f /s (%.0f before, %.0f after)", r.Limits.EchoPerS, r.Before.EchoPerS, r.After.EchoPerS)
	row("fsync", "%.0f /s, %.2f / %.2f ms", r.Limits.FsyncPerS, r.Limits.Fsync.P50, r.Limits.Fsync.P99)
	row("ratio", "%.3f", r.Ratio)
	row("read back", "%d of %d acked", r.Verified.ReadBack, r.Verified.Acked)
	row("lost, doubled, out of order", "%d, %d, %d", r.Verified.Lost, r.Verified.Doubled, r.Verified.OutOfOrder)
	return t.Flush()
}

// A echoServer answers with what it gets, in a process of its own.
type echoServer struct {
	addr netip.AddrPort
	cmd  *exec.Cmd
}

// startEcho starts "timberline bench echo", on the cores that the server has.
func startEcho(ctx context.Context, cores bench.Cores) (*echoServer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start an echo: %w", err)
	}
	e := &echoServer{cmd: exec.CommandContext(ctx, exe, "bench", "echo")}
	endsWithUs(e.cmd, syscall.SIGKILL)
	out, err := e.cmd.StdoutPipe()
	if err == nil {
		err = cores.Start(e.cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("start an echo: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		e.addr, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		e.stop()
		return nil, errors.Join(ctx.Err(), fmt.Errorf("start an echo: it says %q: %w", line, err))
	}
	return e, nil
}

func (e *echoServer) stop() {
	e.cmd.Process.Kill()
	e.cmd.Wait() // killed
}

// runEcho is the process of an echoServer.
func runEcho(ctx context.Context, c *call) error {
	conns, err := udp.ListenGroup("127.0.0.1:0", runtime.GOMAXPROCS(0))
	if err != nil {
		return err
	}
	if err := c.print("%v\n", conns[0].LocalAddr()); err != nil {
		return err
	}
	return bench.Echo(ctx, conns)
}
