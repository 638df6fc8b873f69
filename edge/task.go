package edge

import (
	"context"
	"time"
)

// A task is work that waits for something outside the process. A worker calls
// do, and the loop calls what it returns. If too many tasks wait already, the
// loop calls refuse instead.
type task struct {
	do     func(ctx context.Context) (apply func(now time.Time))
	refuse func(now time.Time)
}

// want notes a task; the loop starts it after what it is doing.
func (t *table) want(do func(context.Context) func(time.Time), refuse func(time.Time)) {
	t.tasks = append(t.tasks, task{do: do, refuse: refuse})
}

// takeTasks returns what was wanted since it was asked last.
func (t *table) takeTasks() []task {
	tasks := t.tasks
	t.tasks = nil
	return tasks
}
