/** The page's elements and what they show. Decides nothing. */

import type { LocalAudioTrack, RemoteAudioTrack } from "livekit-client";
import type { CallListener, Connection, Microphone } from "./call";
import { Level } from "./level";
import type { Problem } from "./problem";
import type { AgentState } from "./protocol";
import type { Line } from "./transcript";

const CONNECTION_WORDS: Record<Connection, string> = {
  idle: "Not connected",
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
};

const AGENT_WORDS: Record<AgentState, string> = {
  absent: "Calling the agent…",
  initializing: "The agent is getting ready…",
  idle: "The agent is waiting for you.",
  listening: "Listening",
  thinking: "Thinking…",
  speaking: "Speaking — talk over it to interrupt.",
  gone: "The agent has left the call.",
};

export function element<T extends HTMLElement>(role: string): T {
  const found = document.querySelector<T>(`[data-role="${role}"]`);
  if (found === null) throw new Error(`the page has no element with the role ${role}`);
  return found;
}

export class View implements CallListener {
  readonly talk = element<HTMLButtonElement>("talk");
  readonly mute = element<HTMLButtonElement>("mute");
  readonly hangUp = element<HTMLButtonElement>("hang-up");
  readonly sound = element<HTMLButtonElement>("sound");
  readonly composer = element<HTMLFormElement>("composer");
  readonly text = element<HTMLInputElement>("text");
  readonly players = element("players");
  readonly agentName = element<HTMLSelectElement>("agent-name");

  readonly #body = document.body;
  readonly #status = element("status");
  readonly #line = element("connection");
  readonly #dock = element("dock");
  readonly #meter = element("level");
  readonly #send = element<HTMLButtonElement>("send");
  readonly #problem = element("problem");
  readonly #transcript = element("transcript");
  readonly #items = new Map<string, HTMLLIElement>();
  #connection: Connection = "idle";
  #agent: AgentState = "absent";
  #heard: Level | undefined;
  #spoken: Level | undefined;
  #frame = 0;
  #pinned = true;

  constructor() {
    element("problem-close").addEventListener("click", () => this.problem(undefined));
    this.text.addEventListener("input", () => this.#armSend());
    this.#transcript.addEventListener("scroll", () => (this.#pinned = this.#atEnd()), { passive: true });
    new ResizeObserver(() => this.#follow()).observe(this.#transcript);
  }

  offer(names: readonly string[]): void {
    this.agentName.replaceChildren(...names.map((name) => new Option(name || "(unnamed)", name)));
    element("chooser").hidden = names.length < 2;
  }

  connection(state: Connection): void {
    const started = this.#connection === "idle" && state !== "idle";
    this.#connection = state;
    this.#body.dataset.connection = state;
    this.#line.textContent = CONNECTION_WORDS[state];
    this.#dock.inert = state === "idle" || state === "connecting";
    this.talk.disabled = state !== "idle";
    this.agentName.disabled = state !== "idle";
    if (started) this.problem(undefined);
    if (state === "idle") {
      this.sound.hidden = true;
      this.talk.focus({ preventScroll: true });
    }
    this.#describe();
    this.#armSend();
  }

  agent(state: AgentState): void {
    this.#agent = state;
    this.#body.dataset.agent = state;
    this.#describe();
  }

  microphone(state: Microphone, track: LocalAudioTrack | undefined): void {
    this.#body.dataset.microphone = state;
    const silent = state === "muted" || state === "off";
    this.mute.setAttribute("aria-pressed", String(silent));
    this.mute.setAttribute("aria-label", silent ? "Turn the microphone on" : "Mute the microphone");
    this.mute.title = silent ? "Unmute (M)" : "Mute (M)";
    this.#heard?.close();
    this.#heard = state === "on" && track ? new Level(track) : undefined;
    this.#animate();
  }

  voice(track: RemoteAudioTrack | undefined): void {
    this.#spoken?.close();
    this.#spoken = track ? new Level(track) : undefined;
    this.#animate();
  }

  playback(audible: boolean): void {
    this.sound.hidden = audible;
  }

  problem(problem: Problem | undefined): void {
    this.#problem.hidden = problem === undefined;
    this.#body.dataset.problem = problem?.kind ?? "";
    element("problem-title").textContent = problem?.title ?? "";
    element("problem-advice").textContent = problem?.advice ?? "";
  }

  line(line: Line): void {
    let item = this.#items.get(line.segment);
    if (line.text === "") {
      item?.remove();
      this.#items.delete(line.segment);
      return;
    }
    if (item === undefined) {
      item = document.createElement("li");
      item.dataset.speaker = line.speaker;
      const who = document.createElement("b");
      who.textContent = line.speaker === "user" ? "You" : "Agent";
      item.append(who, document.createElement("p"));
      this.#items.set(line.segment, item);
      this.#transcript.append(item);
    }
    item.dataset.final = String(line.final);
    item.dataset.interrupted = String(line.interrupted);
    const text = item.lastElementChild;
    if (text && text.textContent !== line.text) text.textContent = line.text;
    this.#follow();
  }

  clear(): void {
    this.#pinned = true;
    this.#items.clear();
    this.#transcript.replaceChildren();
  }

  #describe(): void {
    this.#status.textContent = (() => {
      switch (this.#connection) {
        case "idle":
          return this.#items.size > 0 ? "The call has ended." : "Press Talk and say something.";
        case "connecting":
          return "Connecting…";
        case "reconnecting":
          return "The connection was interrupted. Trying again…";
        case "connected":
          return AGENT_WORDS[this.#agent];
      }
    })();
  }

  #armSend(): void {
    this.#send.disabled = this.text.value.trim() === "" || this.#connection !== "connected";
  }

  /** Stay with the newest line, unless the reader has scrolled up to an older one. */
  #follow(): void {
    if (this.#pinned) this.#transcript.scrollTop = this.#transcript.scrollHeight;
  }

  #atEnd(): boolean {
    const { scrollTop, scrollHeight, clientHeight } = this.#transcript;
    return scrollHeight - scrollTop - clientHeight < 48;
  }

  #animate(): void {
    cancelAnimationFrame(this.#frame);
    const heard = this.#heard?.read() ?? 0;
    const spoken = this.#spoken?.read() ?? 0;
    this.#meter.style.setProperty("--level", heard.toFixed(3));
    this.#meter.setAttribute("aria-valuenow", String(Math.round(heard * 100)));
    this.talk.style.setProperty("--level", (this.#agent === "speaking" ? spoken : heard).toFixed(3));
    if (this.#heard || this.#spoken) this.#frame = requestAnimationFrame(() => this.#animate());
  }
}
