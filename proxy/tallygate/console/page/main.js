// The page: signed in, or the way in.

import { announce } from "./elements.js";
import { currentSession, reason, showSignIn, signIn, takeFailure, takeLink } from "./session.js";
import { openShell } from "./shell.js";
import { problem } from "./states.js";

const root = document.getElementById("page");

async function start() {
  const link = takeLink();
  let text = takeFailure();
  try {
    if (link) {
      try {
        return open(await signIn({ link }));
      } catch (error) {
        text = error.status === 401 ? "This link has been used already, or has expired. Ask for another one." : reason(error);
      }
    }
    const session = await currentSession();
    if (session.name === undefined) enter(text, session.sign_in);
    else open(session);
  } catch (error) {
    root.replaceChildren(problem(error, start));
  }
}

function open(session) {
  openShell(root, session, (text) => enter(text, session.sign_in));
}

function enter(text, ways) {
  document.title = "Sign in · tallygate";
  showSignIn(root, { text, ways, onSession: open });
  if (text) announce(text);
}

window.addEventListener("hashchange", () => location.hash.startsWith("#link=") && start());
start();
