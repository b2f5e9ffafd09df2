/** `vfio net …`: the driver of network cards at work on any card that has an address. */
import type { CommandContext } from '../command.ts';
import { type AccessOptions, accessOf } from '../device-access.ts';
import { Exit } from '../exit-codes.ts';
import { type GiveBack, interruptible } from '../interruptible.ts';
import { json } from '../terminal.ts';
import { untilStopped } from '../until-stopped.ts';
import type { Interrupts, VfSettings } from './values.ts';

const documentOf = (asJson?: boolean) => (asJson === true ? 'a JSON document' : undefined);

interface ListOptions extends AccessOptions {
  readonly wait: number;
  readonly counters?: boolean;
  readonly json?: boolean;
}

export async function listCards({ terminal }: CommandContext, options: ListOptions, at: string[]): Promise<number> {
  const { list } = await import('./list.ts');
  using access = await accessOf(options, terminal, documentOf(options.json));
  return await interruptible(async () => {
    const { lines, document } = await list(at, { ...access, waitSeconds: options.wait, counters: options.counters === true });
    if (options.json === true) json(terminal, 'vfio-ts/net-list/1', document);
    else for (const line of lines) terminal.out(line);
    return Exit.OK;
  });
}

interface SendOptions extends AccessOptions {
  readonly frame?: Uint8Array;
  readonly input?: string;
  readonly size?: number;
  readonly to?: string;
  readonly count?: number;
  readonly rate?: number;
  readonly seconds?: number;
}

export async function sendFrames({ terminal }: CommandContext, options: SendOptions, at: string): Promise<number> {
  const { send } = await import('./send.ts');
  using access = await accessOf(options, terminal);
  const run = async (signal: AbortSignal, onRequest: GiveBack) => {
    terminal.err(await send(at, { ...options, ...access, signal, onRequest }));
    return Exit.OK;
  };
  return await interruptible(run, (line) => terminal.err(line));
}

interface StopOptions extends AccessOptions {
  readonly count?: number;
  readonly seconds?: number;
  readonly interrupts: Interrupts;
}

/** A command that goes on until Ctrl-C is one that ends as it should then. */
async function untilSignal(run: (signal: AbortSignal) => Promise<string>, say: (line: string) => void): Promise<number> {
  using stop = untilStopped();
  let over = false;
  void stop.status.then(() => (over = true));
  say(await run(stop.signal));
  return over ? await stop.status : Exit.OK;
}

interface CaptureOptions extends StopOptions {
  readonly output: string;
  readonly promiscuous?: boolean;
}

export async function captureFrames({ terminal }: CommandContext, options: CaptureOptions, at: string): Promise<number> {
  const { capture } = await import('./capture.ts');
  const { packageVersion } = await import('../../sys/package-files.ts');
  using access = await accessOf(options, terminal, options.output === '-' ? 'the capture' : undefined);
  const ready = (line: string) => terminal.err(line);
  const promiscuous = options.promiscuous === true;
  return await untilSignal(
    (signal) => capture(at, options.output, { ...options, ...access, promiscuous, program: `vfio-ts ${packageVersion()}`, signal, ready }),
    ready,
  );
}

interface EchoOptions extends StopOptions {
  readonly ip?: Uint8Array;
}

export async function echoFrames({ terminal }: CommandContext, options: EchoOptions, at: string): Promise<number> {
  const { echo } = await import('./echo.ts');
  using access = await accessOf(options, terminal);
  const ready = (line: string) => terminal.err(line);
  return await untilSignal(
    (signal) => echo(at, { ...options, ...access, signal, ready }),
    (line) => terminal.out(line),
  );
}

interface ShareOptions extends EchoOptions {
  readonly vf?: readonly VfSettings[];
}

export async function shareCard({ terminal }: CommandContext, options: ShareOptions, at: string): Promise<number> {
  const { share } = await import('./share.ts');
  using access = await accessOf(options, terminal);
  const ready = (line: string) => terminal.err(line);
  const say = (line: string) => terminal.out(line);
  return await untilSignal((signal) => share(at, { ...options, ...access, signal, ready, say }), say);
}

interface BenchOptions extends AccessOptions {
  readonly size: number;
  readonly depth: number;
  readonly seconds: number;
  readonly json?: boolean;
}

export async function benchCards({ terminal }: CommandContext, options: BenchOptions, at: string, receiver?: string): Promise<number> {
  const { bench } = await import('./bench.ts');
  using access = await accessOf(options, terminal, documentOf(options.json));
  const run = async (signal: AbortSignal, onRequest: GiveBack) => {
    const { lines, document } = await bench(at, receiver ?? null, { ...options, ...access, signal, onRequest });
    if (options.json === true) json(terminal, 'vfio-ts/net-bench/1', document);
    else for (const line of lines) terminal.out(line);
    return Exit.OK;
  };
  return await interruptible(run, (line) => terminal.err(line));
}
