// What the SDK exports: the client, the handles that it gives, and the types of all that goes in and comes out.
export type { ErrorCode } from "../errors/codes.ts";
export { type ErrorData, PyroError } from "../errors/error.ts";
export type { WorkspaceDisk } from "./disk.ts";
export type { WorkspaceFiles, WorkspacePatches } from "./files.ts";
export type { Process, Run } from "./process.ts";
export { Pyro, type PyroOptions } from "./pyro.ts";
export type { Service } from "./service.ts";
export type { Shell, ShellView, WorkspaceShells } from "./shell.ts";
export type { WorkspaceSnapshots } from "./snapshots.ts";
export type * from "./types.ts";
export type { Workspace, WorkspaceProcesses, WorkspaceServices } from "./workspace.ts";
