/**
 * Reads machine files, which are YAML. Every scalar is read as text and gets its meaning from
 * machine-schema.ts, so that `at: 04.0` is an address and never a number. The error of a file that
 * is wrong lists every fault with line and column.
 */
import { readFileSync } from 'node:fs';
import { type Document, isMap, isNode, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { VfioError } from '../base/errno.ts';
import type { FunctionSpec, MachineSpec } from '../engine/machine/machine-spec.ts';
import { fromNode } from '../sys/system-error.ts';
import { machineSchema, type ParsedDevice } from './machine-schema.ts';

/** A larger file is refused before it is parsed. */
export const MAX_FILE_BYTES = 2 ** 20;

/** @throws VfioError ENOENT when the file cannot be read; EINVAL as `parseMachine` */
export function readMachineFile(path: string): MachineSpec {
  if (typeof path !== 'string') throw new VfioError('EINVAL', 'the name of a machine file is not a string');
  let source: string;
  try {
    source = readFileSync(path, 'utf8');
  } catch (error) {
    throw fromNode(error, `the machine file ${path} cannot be read`, { fix: 'examples/machines/ has machines to start from.' });
  }
  return parseMachine(source, path);
}

/**
 * @param file name for messages
 * @throws VfioError EINVAL with one line per problem: `file:line:column: path: fault`
 */
export function parseMachine(source: string, file = 'machine.yaml'): MachineSpec {
  if (typeof source !== 'string') throw new VfioError('EINVAL', `${file} is not text`);
  if (Buffer.byteLength(source) > MAX_FILE_BYTES) throw new VfioError('EINVAL', `${file} is larger than ${MAX_FILE_BYTES} bytes`);
  try {
    return parse(source, file);
  } catch (error) {
    // Deep nesting is the one way in which a text of bounded size can still break a parser.
    if (error instanceof RangeError) throw invalid(file, [`${file}: nested too deeply`]);
    throw error;
  }
}

function parse(source: string, file: string): MachineSpec {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines, schema: 'failsafe', prettyErrors: false });
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const problems = document.errors.map((e) => `${place(e.pos[0])}: ${e.message}`);
  if (problems.length > 0) throw invalid(file, problems);
  const plain = toPlain(document, place);
  const parsed = machineSchema.safeParse(plain);
  if (!parsed.success) {
    const found = parsed.error.issues.map((issue) => {
      const key = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
      const offset = offsetOf(document, [...issue.path, ...key]);
      return { offset, text: `${place(offset)}: ${pathText(issue.path)}${describe(issue)}` };
    });
    const inOrder = found.sort((a, b) => a.offset - b.offset);
    throw invalid(
      file,
      inOrder.map((problem) => problem.text),
    );
  }
  const { devices, ...rest } = parsed.data;
  // Options belong to the model and keep the types of YAML. A second parsing takes as long as all
  // the rest, so it is for files with options only.
  const typed = devices.some(hasOptions) ? (parseDocument(source).toJS({ maxAliasCount: 100 }) as { devices: unknown[] }).devices : [];
  return clean({ ...rest, devices: devices.map((d, i) => toFunction(d, typed[i])) });
}

function hasOptions({ options, devices = [] }: ParsedDevice): boolean {
  return options !== undefined || devices.some(hasOptions);
}

function toPlain(document: Document, place: (offset: number) => string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw invalid('machine file', [`${place(0)}: ${(error as Error).message}`]);
  }
}

function toFunction(parsed: ParsedDevice, typed: unknown): FunctionSpec {
  const { class: classCode, devices, options, ...rest } = parsed;
  const own = typed as { options?: Record<string, unknown>; devices?: unknown[] } | undefined;
  return clean({
    ...rest,
    classCode,
    options: options === undefined ? undefined : own?.options,
    devices: devices?.map((d, i) => toFunction(d, own?.devices?.[i])),
  }) as unknown as FunctionSpec;
}

/** Without keys whose value is undefined. */
function clean<T extends object>(object: T): MachineSpec & T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as MachineSpec & T;
}

function invalid(file: string, problems: readonly string[]): VfioError {
  const shown = problems.slice(0, 20);
  const more = problems.length > shown.length ? [`and ${problems.length - shown.length} more`] : [];
  return new VfioError('EINVAL', `${file} is not a machine`, {
    details: [...shown, ...more],
    fix: 'examples/machines/ has machines to start from; schemas/machine.schema.json describes them to an editor.',
  });
}

function pathText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return '';
  return `${path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`)).join('')}: `;
}

function describe(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'unrecognized_keys':
      return `unknown key ${issue.keys.map((k) => `'${k}'`).join(', ')}`;
    case 'invalid_value':
      return issue.message.startsWith('Invalid') ? `expected one of ${issue.values.map(String).join(', ')}` : issue.message;
    case 'invalid_type':
      return issue.input === undefined && issue.message.endsWith('received undefined')
        ? 'missing'
        : issue.message.replace('Invalid input: ', '');
    default:
      return issue.message;
  }
}

/** The offset at which the value at `path` starts, or the nearest value above it that exists. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range != null) return node.range[0];
    const parent = length === 0 ? null : document.getIn(path.slice(0, length - 1), true);
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isNode(item.key) && String(item.key) === String(path[length - 1]));
      if (pair !== undefined && isNode(pair.key) && pair.key.range != null) return pair.key.range[0];
    }
  }
  return 0;
}
