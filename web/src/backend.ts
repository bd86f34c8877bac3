/** The two questions that the page asks of `greenroom dev`. */

export interface Entrance {
  readonly url: string;
  readonly token: string;
  readonly room: string;
  readonly identity: string;
}

export interface Agents {
  /** The names that agents are dispatched by; an empty name joins every room. */
  readonly agents: readonly { readonly name: string }[];
  readonly worker: { readonly state: "starting" | "ready" | "failed"; readonly detail: string };
}

/** `status` is 0 when nothing answered at all. */
export class BackendError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** A fresh room with the agent called to it. */
export function fetchEntrance(agent: string): Promise<Entrance> {
  return ask<Entrance>("token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ agent }),
  });
}

export function fetchAgents(): Promise<Agents> {
  return ask<Agents>("agents", { cache: "no-store" });
}

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    throw new BackendError(String(error), 0);
  }
  if (!response.ok) {
    const answer = (await response.json().catch(() => ({}))) as { error?: string };
    throw new BackendError(answer.error ?? `HTTP ${response.status}`, response.status);
  }
  return (await response.json()) as T;
}
