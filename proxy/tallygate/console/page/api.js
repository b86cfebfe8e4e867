// Questions to the console's API, on this origin, with the session's cookie.

const PAGES_MAX = 40; // of one answer: what is larger is asked for in longer buckets

export class ApiError extends Error {
  constructor(status, { code = "unreachable", message = "The console does not answer.", param = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

let skew = 0; // of this machine's clock: how far the console is ahead

/** Unix milliseconds by the console's clock. */
export function now() {
  return Date.now() + skew;
}

/** Call the API. Returns the answer's JSON, null if it has none. Raises ApiError; AbortError once `signal` is aborted. */
export async function call(method, path, { parameters = {}, body, signal } = {}) {
  const query = new URLSearchParams(
    Object.entries(parameters).flatMap(([name, value]) =>
      [value]
        .flat()
        .filter((one) => one !== "" && one !== null && one !== undefined)
        .map((one) => [name, one]),
    ),
  );
  const headers = { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(query.size ? `${path}?${query}` : path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (date && Math.abs(date - Date.now()) > 5_000) skew = date - Date.now();
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null; // cut off, or not the console's own
  });
  if (response.ok && answer === null && response.status !== 204) throw new ApiError(0);
  if (response.ok) return answer;
  const problem = answer?.error;
  const error = new ApiError(
    response.status,
    typeof problem === "object" && problem
      ? problem
      : { code: String(problem ?? response.status), message: answer?.message ?? `The console answered ${response.status}.` },
  );
  error.answer = answer;
  throw error;
}

export function ask(path, parameters, signal) {
  return call("GET", path, { parameters, signal });
}

/** The usage of a range, all pages of it as one answer. */
export async function askUsage(parameters, signal) {
  const answer = await ask("/api/usage", { limit: 2000, ...parameters }, signal);
  for (let page = 1; answer.next_cursor; page += 1) {
    if (page === PAGES_MAX)
      throw new ApiError(400, {
        code: "answer_too_large",
        message: "That is more than a chart can show: choose longer buckets or a shorter range.",
      });
    const more = await ask("/api/usage", { limit: 2000, ...parameters, cursor: answer.next_cursor }, signal);
    answer.rows.push(...more.rows);
    answer.next_cursor = more.next_cursor;
  }
  return answer;
}
