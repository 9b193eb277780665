// SPDX-License-Identifier: Apache-2.0

package badinput

import "github.com/containerd/containerd/api/services/tasks/v1"

// deleteTask is the request itself: containerd's client refuses some by itself.
func deleteTask(id string) *tasks.DeleteTaskRequest { return &tasks.DeleteTaskRequest{ContainerID: id} }
