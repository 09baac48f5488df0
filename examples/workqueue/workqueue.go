// Package workqueue is what the producer and the workers of this example have in
// common: the queue, and what a task looks like.
//
//	go run ./examples/workqueue/worker -name w1                 # in one terminal
//	go run ./examples/workqueue/worker -name w2 -delay 1s       # in another, a slow one
//	go run ./examples/workqueue/producer -n 100                 # in a third
package workqueue

import "github.com/mqkit/mqkit/topology"

// Queue is where tasks wait.
const Queue = "tasks"

// Task is one piece of work.
type Task struct {
	ID int `json:"id"`
}

// Topology is the queue with a dead-letter queue behind it, tasks.dead, where a
// task ends that no worker can handle.
func Topology() topology.Topology { return topology.WorkQueue(Queue) }
