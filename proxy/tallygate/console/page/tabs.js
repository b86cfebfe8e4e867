// The tabs, each a module that is loaded when it is first opened.
//
// A module exports mount(root, context), which fills `root` and returns a view: update(context) for another state, unmount(), and
// `ready`, a promise that resolves once the last context is shown. context is made in shell.js.
// hasRange: it shows a range of time, with the filters of the header; hasViews: in views and buckets.

export const TABS = [
  { id: "usage", name: "Usage", hasRange: true, hasViews: true, load: () => import("./usage_tab.js") },
  { id: "requests", name: "Requests", hasRange: true, load: () => import("./requests_tab.js") },
  { id: "limits", name: "Limits and credentials", load: () => import("./limits_tab.js") },
  { id: "prices", name: "Prices", load: () => import("./prices_tab.js") },
  { id: "export", name: "Export", hasRange: true, load: () => import("./export_tab.js") },
];
