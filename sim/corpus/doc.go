// Package corpus reads real chat for demos, simulations and benchmarks, and says
// who wrote what to whom.
//
// A corpus is a text of lines "time<TAB>nick<TAB>text", gzipped or not. Nicks
// fold by hash onto a number of users. The partner of a line is whoever its text
// addresses in the beginning ("szx0: yes", "szx0, yes"), if that is a nick of the
// corpus; else the last speaker before; in the beginning, the first one after. A
// partner is always another user than the author: where nicks fold onto the same
// user, the next candidate counts.
//
// [Sample] is a short one that comes with the program; see SAMPLE.md.
package corpus
