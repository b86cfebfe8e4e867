// Signing in and out.

import { ApiError, call } from "./api.js";
import { h, wordmark } from "./elements.js";

/** The session of this browser, {name, access, organizations, expires_at, sign_in}; without one, only `sign_in`. Raises ApiError. */
export async function currentSession() {
  const { session, openid } = await call("GET", "/api/sign-in");
  return session ?? { sign_in: { openid } };
}

/** The one-time link's secret in the address, "" for none. It is taken from there, and so from the browser's history. */
export function takeLink() {
  const found = /^#link=(.+)$/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", location.pathname + location.search);
  return found[1];
}

const FAILURES = {
  no_organization:
    "You are signed in with your provider, but none of your organizations is known here. Ask whoever runs this console for access.",
  cancelled: "The sign-in was cancelled at your provider.",
  expired: "That took too long, or was begun in another window. Sign in again.",
  elsewhere: "Another site began a sign-in here. Sign in yourself, if you want to.",
  unavailable: "Your provider does not answer. Try again in a moment.",
  refused: "Your provider's answer was not accepted. Try again; if that does not help, the console's log says why.",
};

/** Why a sign-in at a provider failed, "" if none did. It is taken from the address. */
export function takeFailure() {
  const found = /^#sign_in=(\w+)$/.exec(location.hash);
  if (!found) return "";
  history.replaceState(null, "", location.pathname + location.search);
  return FAILURES[found[1]] ?? FAILURES.refused;
}

/** proof: {token} or {link}. Returns the session. Raises ApiError. */
export function signIn(proof) {
  return call("POST", "/api/session", { body: proof });
}

/** End the session, here and at the console. */
export function signOut() {
  return call("DELETE", "/api/session");
}

/** Show the form. text: why one has to sign in; ways: `sign_in` of a session; onSession: called with the new one. */
export function showSignIn(root, { text, ways, onSession }) {
  const told = h("p", { class: "problem", role: "alert", hidden: !text }, text);
  const token = h("input", {
    type: "password",
    id: "token",
    name: "token",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
  });
  const button = h("button", { class: "button strong" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      onSession(await signIn({ token: token.value.trim() }));
    } catch (error) {
      told.hidden = false;
      told.textContent = reason(error);
      token.select();
    } finally {
      button.disabled = false;
    }
  };
  root.replaceChildren(
    h(
      "main",
      { class: "sign-in" },
      h("h1", { class: "wordmark" }, wordmark()),
      h("p", { class: "quiet" }, "Requests, tokens and cost of your organizations."),
      told,
      ways?.openid ? h("a", { class: "button strong wide", href: ways.openid.path }, `Sign in with ${ways.openid.name}`) : null,
      h("form", { on: { submit } }, h("label", { for: "token" }, "Admin token"), token, button),
      h("p", { class: "quiet" }, "Or open the link that ", h("code", {}, "tallygate login"), " prints."),
    ),
  );
  token.focus();
}

/** A refusal in words. */
export function reason(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401) return "This token is not known, or has been revoked or has expired.";
  if (error.status === 429) return "Too many attempts. Wait a little, then try again.";
  return error.message;
}
