// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// view reaches into the configuration of CRI's runtime plugin. Its type is
// internal to containerd, its fields are exported: DefaultRuntimeName and
// Runtimes, a map of structures with Type and Options.
type view struct {
	runtimes reflect.Value
	fallback reflect.Value
}

// handler is one entry of Runtimes.
type handler struct {
	name    string
	typ     string
	options map[string]any
}

// viewOf fails when the fields are not what they were when this was written,
// so that an upgrade of containerd is noticed by a test and not by kubelet.
func viewOf(criConfig any) (view, error) {
	p := reflect.ValueOf(criConfig)
	if p.Kind() != reflect.Pointer || p.IsNil() || p.Elem().Kind() != reflect.Struct {
		return view{}, fmt.Errorf("the configuration of CRI's runtime plugin is a %T, not a pointer to a structure", criConfig)
	}
	v := view{runtimes: p.Elem().FieldByName("Runtimes"), fallback: p.Elem().FieldByName("DefaultRuntimeName")}
	ok := v.runtimes.IsValid() && v.runtimes.Kind() == reflect.Map && v.runtimes.Type().Key().Kind() == reflect.String &&
		v.runtimes.Type().Elem().Kind() == reflect.Struct && v.fallback.IsValid() && v.fallback.Kind() == reflect.String
	if ok {
		t := v.runtimes.Type().Elem()
		typ, hasType := t.FieldByName("Type")
		options, hasOptions := t.FieldByName("Options")
		ok = hasType && typ.Type.Kind() == reflect.String && hasOptions && options.Type == reflect.TypeFor[map[string]any]()
	}
	if !ok {
		return view{}, fmt.Errorf("%T has not the fields that CRI's configuration is known by", criConfig)
	}
	return v, nil
}

func (v view) defaultName() string { return v.fallback.String() }

// handlers returns the entries by name.
func (v view) handlers() []handler {
	var out []handler
	for it := v.runtimes.MapRange(); it.Next(); {
		out = append(out, handler{
			name:    it.Key().String(),
			typ:     it.Value().FieldByName("Type").String(),
			options: it.Value().FieldByName("Options").Interface().(map[string]any),
		})
	}
	slices.SortFunc(out, func(a, b handler) int { return cmp.Compare(a.name, b.name) })
	return out
}

// set stores the options of an existing entry.
func (v view) set(h handler) {
	key := reflect.ValueOf(h.name).Convert(v.runtimes.Type().Key())
	entry := reflect.New(v.runtimes.Type().Elem()).Elem()
	if old := v.runtimes.MapIndex(key); old.IsValid() {
		entry.Set(old)
	}
	entry.FieldByName("Type").SetString(h.typ)
	entry.FieldByName("Options").Set(reflect.ValueOf(h.options))
	if v.runtimes.IsNil() {
		v.runtimes.Set(reflect.MakeMap(v.runtimes.Type()))
	}
	v.runtimes.SetMapIndex(key, entry)
}

// add makes an entry.
func (v view) add(name, typ string, options map[string]any) {
	v.set(handler{name: name, typ: typ, options: options})
}

// forgetDefault drops the key from the defaults. What it is not able to find,
// Align reports later.
func forgetDefault(criConfig any) {
	v, err := viewOf(criConfig)
	if err != nil {
		return
	}
	for _, h := range v.handlers() {
		if _, ok := h.options[optionKey]; ok {
			h.options = setOption(h.options, false)
			delete(h.options, optionKey)
			v.set(h)
		}
	}
}
