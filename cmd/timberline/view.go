package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/term"

	"timberline/events"
)

// A view is where a chat happens. It is safe for concurrent use.
type view interface {
	// Print shows a line.
	Print(line string)
	// Note shows something about the chat itself.
	Note(format string, args ...any)
	// Sending shows a message that is on its way, and Mark what became of it.
	Sending(id events.MessageID, line string)
	Mark(id events.MessageID, line string)
	// Place shows a line that Update may put another one in the place of, as it may after
	// Mark, if it is still there.
	Place(id events.MessageID, line string)
	Update(id events.MessageID, line string)
	// Lines returns what is typed, until ctx ends.
	Lines(ctx context.Context) <-chan line
	// Interactive reports whether there is somebody at a terminal.
	Interactive() bool
	Close() error
}

// openView returns a terminal's screen, or plain lines if there is no terminal.
func openView(c *call, prompt string) (view, error) {
	in, isFile := c.stdin.(*os.File)
	out, isFileToo := c.stdout.(*os.File)
	if isFile && isFileToo && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd())) {
		return newScreen(in, out, prompt)
	}
	return &plainView{c: c}, nil
}

// A plainView prints one line after the other. A message of one's own is printed
// when its fate is known.
type plainView struct {
	c  *call
	mu sync.Mutex
}

func (p *plainView) Print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.c.stdout, line)
}

func (p *plainView) Note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.c.stderr, "* "+format+"\n", args...)
}

func (p *plainView) Sending(events.MessageID, string)      {}
func (p *plainView) Mark(_ events.MessageID, line string)  { p.Print(line) }
func (p *plainView) Place(_ events.MessageID, line string) { p.Print(line) }
func (p *plainView) Update(events.MessageID, string)       {}
func (p *plainView) Interactive() bool                     { return false }
func (p *plainView) Close() error                          { return nil }
func (p *plainView) Lines(ctx context.Context) <-chan line { return readLines(ctx, p.c) }
