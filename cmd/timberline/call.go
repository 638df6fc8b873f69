package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3"
)

// envPrefix is what the names of environment variables begin with.
const envPrefix = "TIMBERLINE"

// A call is one run of a command.
type call struct {
	cmd    *command
	raw    []string // as given
	args   []string // the same; after parse, what follows the flags
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	flags  *flag.FlagSet
	given  map[string]bool // the flags that were set, from wherever
}

func newCall(cmd *command, args []string, stdin io.Reader, stdout, stderr io.Writer) *call {
	c := &call{cmd: cmd, raw: args, args: args, stdin: stdin, stdout: stdout, stderr: stderr}
	c.flags = flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	c.flags.SetOutput(io.Discard)
	c.flags.String("config", "", "`file` with one \"flag value\" a line")
	return c
}

var errHelp = errors.New("help was asked for")

// A usageError says what is wrong with a command line or a configuration.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// wrong returns a usageError about a flag: what its value is, and what would be
// right.
func wrong(flag, format string, args ...any) error {
	return &usageError{fmt.Errorf("--%s %s", flag, fmt.Sprintf(format, args...))}
}

// parse reads the flags from the command line, the environment and the file. At
// most max arguments may follow them; a negative max allows any number.
func (c *call) parse(max int) error {
	c.flags.VisitAll(func(f *flag.Flag) { f.Value = explained{f.Value} })
	err := ff.Parse(c.flags, c.args,
		ff.WithEnvVarPrefix(envPrefix),
		ff.WithConfigFileFlag("config"),
		ff.WithConfigFileParser(c.readConfig),
	)
	var unopened *fs.PathError
	switch {
	case errors.As(err, &unopened):
		return wrong("config", "cannot be read: %v", err)
	case errors.Is(err, flag.ErrHelp):
		c.help()
		return errHelp
	case err != nil:
		return &usageError{errors.New(strings.TrimPrefix(err.Error(), "error parsing commandline arguments: "))}
	}
	c.args = c.flags.Args()
	if max >= 0 && len(c.args) > max {
		return &usageError{fmt.Errorf("%q is one argument too many (flags come first)", c.args[max])}
	}
	c.given = make(map[string]bool)
	c.flags.Visit(func(f *flag.Flag) { c.given[f.Name] = true })
	return nil
}

// explained is the value of a flag that says what would be right where package flag says
// only "parse error".
type explained struct{ flag.Value }

// Set implements flag.Value.
func (e explained) Set(text string) error {
	err := e.Value.Set(text)
	g, ok := e.Value.(flag.Getter)
	if err == nil || !ok {
		return err
	}
	switch g.Get().(type) {
	case bool:
		return errors.New("want true or false")
	case int, int64:
		return errors.New("want a whole number")
	case uint, uint64:
		return errors.New("want a whole number, 0 or more")
	case float64:
		return errors.New("want a number")
	case time.Duration:
		return errors.New("want a time with its unit: 500ms, 90s, 15m, or 2160h for 90 days")
	}
	return err
}

// IsBoolFlag says whether the flag needs no value.
func (e explained) IsBoolFlag() bool {
	b, ok := e.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// parseWords parses the command line of a command that is told in words what to do, or of
// what: before the flags, or, max of them at most, behind. It returns the words.
func (c *call) parseWords(max int) (words []string, err error) {
	for len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		words, c.args = append(words, c.args[0]), c.args[1:]
	}
	if err := c.parse(max); err != nil {
		return nil, err
	}
	return append(words, c.args...), nil
}

// noFlagsBehind refuses a text with what looks like a flag of the command, unless
// "--" says that it is none.
func (c *call) noFlagsBehind() error {
	if slices.Contains(c.raw[:len(c.raw)-len(c.args)], "--") {
		return nil
	}
	for _, word := range c.args {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if strings.HasPrefix(word, "-") && c.flags.Lookup(name) != nil {
			return &usageError{fmt.Errorf("%s stands in the text: flags come first; write -- before a text that has it", word)}
		}
	}
	return nil
}

// readConfig reads a configuration file. All commands can share one: what only
// the server knows is none of the others' business.
func (c *call) readConfig(r io.Reader, set func(name, value string) error) error {
	server := serverFlags()
	take := func(name, value string) error {
		if c.flags.Lookup(name) == nil && server.Lookup(name) != nil {
			return nil
		}
		if name == "config" {
			return errors.New("\"config\" cannot be set in a file")
		}
		return set(name, value)
	}
	at := func(line int, err error) error {
		return wrong("config", "is %s, line %d: %v", c.flags.Lookup("config").Value, line, err)
	}
	lines := bufio.NewScanner(r)
	n := 1
	for ; lines.Scan(); n++ {
		if err := ff.PlainParser(strings.NewReader(lines.Text()), take); err != nil {
			return at(n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return at(n, err)
	}
	return nil
}

// help prints what there is to know about the command.
func (c *call) help() {
	cmd := c.cmd
	fmt.Fprintf(c.stdout, "%s\n\nusage: timberline %s [flags]", cmd.summary, cmd.name)
	if cmd.args != "" {
		fmt.Fprintf(c.stdout, " %s", cmd.args)
	}
	fmt.Fprintln(c.stdout)
	if cmd.about != "" {
		fmt.Fprintf(c.stdout, "\n%s\n", strings.TrimSpace(cmd.about))
	}
	fmt.Fprintf(c.stdout, "\nexample:\n  %s\n\nflags:\n", strings.TrimSpace(cmd.example))
	c.flags.VisitAll(func(f *flag.Flag) {
		if e, ok := f.Value.(explained); ok {
			f = &flag.Flag{Name: f.Name, Usage: f.Usage, DefValue: f.DefValue, Value: e.Value}
		}
		value, usage := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(c.stdout, "  --%s\n        %s\n", strings.TrimSpace(f.Name+" "+value), usage)
	})
	fmt.Fprintf(c.stdout, "\nFlags can be given in the environment, too, as %s_NAME, and in a file by --config.\n", envPrefix)
}

// printJSON prints a value as one line.
func (c *call) printJSON(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.print("%s\n", line)
}

// print prints to stdout. A reader that is gone is an error.
func (c *call) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(c.stdout, format, args...); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
