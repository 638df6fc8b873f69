package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"

	"timberline/events"
)

// A screen is a terminal with a line to type in at the bottom.
type screen struct {
	in     *os.File
	before *term.State
	t      *term.Terminal
	prompt string

	mu            sync.Mutex
	width, height int
	rows          int                        // printed so far
	placed        map[events.MessageID]shown // what is still within reach

	typed   atomic.Int64 // the most cells that what stands behind the prompt may fill
	longest int64        // that any line has had; of the goroutine that reads
	entered bool         // Enter was pressed, and mu is held; of the goroutine that reads
}

// shown is where a line is.
type shown struct{ row, rows int }

func newScreen(in, out *os.File, prompt string) (*screen, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	s := &screen{in: in, before: before, prompt: prompt, placed: make(map[events.MessageID]shown)}
	s.t = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{screenReader{s}, out}, prompt)
	s.measure()
	return s, nil
}

// Close gives the terminal back as it was.
func (s *screen) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.SetPrompt("")
	fmt.Fprint(s.t, "\r\x1b[J")
	if err := term.Restore(int(s.in.Fd()), s.before); err != nil {
		return fmt.Errorf("restore the terminal: %w", err)
	}
	return nil
}

// Interactive implements view.
func (s *screen) Interactive() bool { return true }

// measure looks how large the terminal is. Rows counted for another width are of
// no use any more.
func (s *screen) measure() {
	w, h, err := term.GetSize(int(s.in.Fd()))
	if err != nil || w < 1 || h < 1 {
		w, h = 80, 24
	}
	if w == s.width && h == s.height {
		return
	}
	if w != s.width {
		clear(s.placed)
	}
	s.width, s.height = w, h
	s.t.SetSize(w, h)
}

// rowsOf returns the rows that a line takes. A character that does not fit into a row any
// more begins the next.
func (s *screen) rowsOf(line string) int {
	rows, col := 1, 0
	for _, r := range line {
		cells := cellsOf(r)
		if col+cells > s.width {
			rows, col = rows+1, 0
		}
		col += cells
	}
	return rows
}

// cellsOf returns how wide a character is: East Asian ones and emoji take two cells.
func cellsOf(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0 // it is put upon the one before it
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// Print implements view.
func (s *screen) Print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(line)
}

func (s *screen) print(line string) {
	s.measure()
	fmt.Fprintf(s.t, "%s\n", line)
	s.rows += s.rowsOf(line)
	maps.DeleteFunc(s.placed, func(_ events.MessageID, was shown) bool { return s.rows-was.row >= s.height-1 })
}

// place prints a line and keeps where it is.
func (s *screen) place(id events.MessageID, line string) {
	s.measure()
	s.placed[id] = shown{s.rows, s.rowsOf(line)}
	s.print(line)
}

// Note implements view.
func (s *screen) Note(format string, args ...any) {
	s.Print("* " + fmt.Sprintf(format, args...))
}

// Sending implements view.
func (s *screen) Sending(id events.MessageID, line string) { s.Place(id, line) }

// Place implements view.
func (s *screen) Place(id events.MessageID, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.place(id, line)
}

// Mark implements view. It puts the line in the place of the one that Sending has
// shown, or below if it does not fit there or that is out of reach.
func (s *screen) Mark(id events.MessageID, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.replace(id, line) {
		s.place(id, line)
	}
}

// Update implements view.
func (s *screen) Update(id events.MessageID, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replace(id, line)
}

// replace puts a line in the place of another, if it fits there and that is within reach.
func (s *screen) replace(id events.MessageID, line string) bool {
	s.measure()
	was, ok := s.placed[id]
	up := s.rows - was.row
	if !ok || up > s.reach() || s.rowsOf(line) != was.rows {
		return false
	}
	there := fmt.Sprintf("\x1b[%dA\r%s\r", up, line)
	if down := up - was.rows + 1; down > 0 {
		there += fmt.Sprintf("\x1b[%dB", down)
	}
	io.WriteString(s.t, there) // at once: the prompt is put behind each write
	return true
}

// Lines implements view. What was typed is taken off the screen: it is shown
// again as a message.
func (s *screen) Lines(ctx context.Context) <-chan line {
	lines := make(chan line)
	go func() {
		defer close(lines)
		for {
			text, err := s.t.ReadLine()
			if err == nil || errors.Is(err, term.ErrPasteIndicator) {
				s.erase(text)
				err = nil
			}
			s.release()
			if err == io.EOF {
				return
			}
			if err != nil {
				err = fmt.Errorf("read the terminal: %w", err)
			}
			if !pass(ctx, lines, line{text, err}) || err != nil {
				return
			}
		}
	}()
	return lines
}

// A screenReader reads the keys. When Enter is among them nothing may be printed
// until what was typed is erased, or the wrong rows would be.
type screenReader struct{ s *screen }

// Read implements io.Reader.
func (r screenReader) Read(b []byte) (int, error) {
	r.s.release()
	n, err := r.s.in.Read(b)
	r.s.count(b[:n])
	if bytes.ContainsAny(b[:n], "\r\n") {
		r.s.mu.Lock()
		r.s.entered = true
	}
	return n, err
}

// count keeps account of what was typed. A character has no more cells than bytes, and what
// is taken back still counts; an escape sequence may bring an earlier line.
func (s *screen) count(keys []byte) {
	n := s.typed.Load() + int64(len(keys))
	if bytes.IndexByte(keys, 0x1b) >= 0 {
		n += s.longest
	}
	if end := bytes.LastIndexAny(keys, "\r\n"); end >= 0 {
		s.longest = max(s.longest, n)
		n = int64(len(keys) - end - 1)
	}
	s.typed.Store(n)
}

// reach returns how many rows up a line may be to be changed: those above the prompt and
// what was typed behind it, which may take several.
func (s *screen) reach() int {
	return s.height - 1 - (len(s.prompt)+int(s.typed.Load()))/s.width
}

// release lets others print again.
func (s *screen) release() {
	if s.entered {
		s.entered = false
		s.mu.Unlock()
	}
}

// erase takes what was typed off the screen.
func (s *screen) erase(typed string) {
	if !s.entered { // of several lines pasted at once
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	fmt.Fprintf(s.t, "\x1b[%dA\r\x1b[J", s.rowsOf(s.prompt+typed))
}
