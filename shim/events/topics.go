// SPDX-License-Identifier: Apache-2.0

package events

// The topics of a task's events, as containerd's clients know them
// (core/runtime/events.go there). Each goes with one message of
// containerd/api/events.
const (
	TopicCreate       = "/tasks/create"       // TaskCreate
	TopicStart        = "/tasks/start"        // TaskStart
	TopicOOM          = "/tasks/oom"          // TaskOOM
	TopicExit         = "/tasks/exit"         // TaskExit
	TopicDelete       = "/tasks/delete"       // TaskDelete
	TopicExecAdded    = "/tasks/exec-added"   // TaskExecAdded
	TopicExecStarted  = "/tasks/exec-started" // TaskExecStarted
	TopicPaused       = "/tasks/paused"       // TaskPaused
	TopicResumed      = "/tasks/resumed"      // TaskResumed
	TopicCheckpointed = "/tasks/checkpointed" // TaskCheckpointed
)
