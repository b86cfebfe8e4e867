// The tabs, each a module that is loaded when it is first opened.
//
// A module exports mount(root, context), which fills `root` and returns a view: update(context) for another state, unmount(), and
// `shown`, a promise that resolves once the last context is shown. context is made in shell.js.

export const TABS = [{ id: "usage", name: "Usage", load: () => import("./usage_tab.js") }];
