/** LiveKit's names for what an agent and a page say to each other in a room. */

export const TRANSCRIPTION_TOPIC = "lk.transcription";
export const CHAT_TOPIC = "lk.chat";
export const AGENT_STATE = "lk.agent.state";
export const SEGMENT_ID = "lk.segment_id";
export const TRANSCRIPTION_FINAL = "lk.transcription_final";

/** Greenroom's own: "true" on the last message of a segment that was cut off. */
export const INTERRUPTED = "greenroom.interrupted";

export const AGENT_STATES = ["initializing", "idle", "listening", "thinking", "speaking"] as const;

/** What the agent says it is doing; `absent` before it has come, `gone` once it has left. */
export type AgentState = (typeof AGENT_STATES)[number] | "absent" | "gone";

/** An agent that does not say what it is doing is taken to be getting ready. */
export function agentState(attribute: string | undefined): AgentState {
  return AGENT_STATES.find((state) => state === attribute) ?? "initializing";
}
