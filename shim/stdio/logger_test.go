// SPDX-License-Identifier: Apache-2.0

package stdio

func playLogger(string, []string) int { return 1 }
