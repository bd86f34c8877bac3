/** Wires the buttons to calls: one call at a time, a fresh room for each. */

import { setLogLevel } from "livekit-client";
import { fetchAgents } from "./backend";
import { Call } from "./call";
import { messageOf } from "./problem";
import { Transcript } from "./transcript";
import { View } from "./view";

setLogLevel("warn");

const view = new View();
const transcript = new Transcript((line) => view.line(line));
let call: Call | undefined;

async function offerAgents(): Promise<void> {
  const { agents } = await fetchAgents();
  view.offer(agents.map((agent) => agent.name));
}

view.talk.addEventListener("click", () => {
  transcript.clear();
  view.clear();
  call = new Call(view, transcript, view.players);
  void call.start(view.agentName.value);
});

view.hangUp.addEventListener("click", () => call?.hangUp());
view.mute.addEventListener("click", () => void call?.toggleMicrophone());
view.sound.addEventListener("click", () => void call?.startPlayback());

view.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = view.text.value.trim();
  if (text === "" || call === undefined) return;
  call.type(text).then(
    () => {
      view.text.value = "";
      view.text.dispatchEvent(new Event("input"));
    },
    (error: unknown) =>
      view.problem({ kind: "text-failed", title: "The text was not sent.", advice: messageOf(error) }),
  );
});

document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
  if (event.key === "m" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat) {
    void call?.toggleMicrophone();
  }
});

// A page that is closed leaves at once, so that the agent does not sit in an empty room.
window.addEventListener("pagehide", () => call?.hangUp());

offerAgents().catch(() =>
  view.problem({
    kind: "console-unreachable",
    title: "greenroom dev does not answer.",
    advice: "It serves this page: start it again in its terminal, then reload.",
  }),
);
