package corpus

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed" // the sample
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"

	"timberline/events"
)

// A Line is one message of a corpus.
type Line struct{ Time, Nick, Text string }

// A Message is a line, with nicks folded onto users.
type Message struct {
	From, To events.User
	Text     string
}

//go:embed sample.tsv
var sample []byte

// Sample returns the corpus that comes with the program: 400 lines.
func Sample() []Line {
	lines, err := Read(bytes.NewReader(sample), "sample.tsv")
	if err != nil {
		panic(err) // it was built in damaged
	}
	return lines
}

// Load reads a corpus file, as ReadFile does; without a path it returns the Sample.
func Load(path string) ([]Line, error) {
	if path == "" {
		return Sample(), nil
	}
	return ReadFile(path)
}

// ReadFile reads a corpus, gzipped or not. Errors name the file and the line.
func ReadFile(path string) ([]Line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("corpus: %w", err)
	}
	defer f.Close()
	return Read(f, path)
}

// gzipMagic is what a gzipped stream begins with.
const gzipMagic = "\x1f\x8b"

// maxLine bounds a line, in bytes.
const maxLine = 1 << 20

// Read reads a corpus, gzipped or not. Errors name it and the line. A corpus has
// at least one line.
func Read(r io.Reader, name string) ([]Line, error) {
	buffered := bufio.NewReader(r)
	r = buffered
	if magic, _ := buffered.Peek(len(gzipMagic)); string(magic) == gzipMagic {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("corpus %s: %w", name, err)
		}
		r = unzipped
	}
	var lines []Line
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		l, err := parse(s.Text())
		if err != nil {
			return nil, fmt.Errorf("corpus %s, line %d: %w", name, len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("corpus %s, line %d: %w", name, len(lines)+1, err)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("corpus %s is empty, want lines of time, nick and text, separated by tabs", name)
	}
	return lines, nil
}

func parse(text string) (Line, error) {
	parts := strings.SplitN(text, "\t", 3)
	if len(parts) < 3 || parts[1] == "" {
		return Line{}, errors.New("want time, nick and text, separated by tabs")
	}
	if len(parts[2]) > events.DefaultMaxBody {
		return Line{}, fmt.Errorf("the text has %d bytes, want at most %d", len(parts[2]), events.DefaultMaxBody)
	}
	return Line{parts[0], parts[1], parts[2]}, nil
}

// MinUsers is the least number of users that lines can fold onto: a partner is
// somebody else.
const MinUsers = 2

// Fold returns the user that a nick stands for, of so many: u0000, u0001 ….
func Fold(nick string, users int) events.User {
	h := fnv.New64a()
	io.WriteString(h, nick)
	return events.User(fmt.Sprintf("u%04d", h.Sum64()%uint64(users)))
}

// Messages returns who wrote what to whom. It is an error if the lines are not of
// at least two users.
func Messages(lines []Line, users int) ([]Message, error) {
	if users < MinUsers {
		return nil, fmt.Errorf("%d users, want at least %d: a partner is somebody else", users, MinUsers)
	}
	p := newPartners(lines, users)
	messages := make([]Message, len(lines))
	for i, l := range lines {
		from := p.user[l.Nick]
		to, ok := p.of(from, l.Text)
		if !ok {
			return nil, fmt.Errorf("all %d lines fold onto user %s: want more users, or a corpus of more nicks", len(lines), from)
		}
		messages[i] = Message{from, to, l.Text}
		p.spoke(from)
	}
	return messages, nil
}

// partners finds out who is spoken to.
type partners struct {
	user   map[string]events.User // by nick
	folded map[string]events.User // by nick in lower case, as people type it
	// last is who spoke last, other who spoke last of all others; in the
	// beginning, the first two who will.
	last, other events.User
}

func newPartners(lines []Line, users int) *partners {
	p := &partners{user: make(map[string]events.User), folded: make(map[string]events.User)}
	for _, l := range lines {
		if _, known := p.user[l.Nick]; known {
			continue
		}
		u := Fold(l.Nick, users)
		p.user[l.Nick] = u
		p.folded[strings.ToLower(l.Nick)] = u
		switch {
		case p.last == "":
			p.last = u
		case p.other == "" && u != p.last:
			p.other = u
		}
	}
	return p
}

func (p *partners) spoke(u events.User) {
	if u != p.last {
		p.last, p.other = u, p.last
	}
}

// of returns whom a text by a user is for.
func (p *partners) of(from events.User, text string) (events.User, bool) {
	if end := strings.IndexAny(text, ":, "); end > 0 && text[end] != ' ' {
		if u, ok := p.addressed(text[:end]); ok && u != from {
			return u, true
		}
	}
	if p.last != from {
		return p.last, p.last != ""
	}
	return p.other, p.other != ""
}

func (p *partners) addressed(nick string) (events.User, bool) {
	if u, ok := p.user[nick]; ok {
		return u, true
	}
	u, ok := p.folded[strings.ToLower(nick)]
	return u, ok
}
