/**
 * README's samples, typed into a project that has the package installed, and the commands that
 * README shows for them.
 */
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Checks } from './checks.ts';
import { type Node, root } from './nodes.ts';
import type { Project } from './projects.ts';

const readme = readFileSync(join(root, 'README.md'), 'utf8');

/** Fenced blocks whose first line is a comment that names their file. */
const samples = [...readme.matchAll(/^```ts\n(\/\/ ([\w-]+\.ts)\b[\s\S]*?)^```$/gm)].map((m) => ({ text: m[1]!, file: m[2]! }));

/**
 * `vfio run` of a console block that needs neither server nor hardware, and the lines that README
 * prints below it.
 */
const commands = [...readme.matchAll(/^\$ npx vfio (run [^\n]*)\n([\s\S]*?)^(?:\$|```)/gm)]
  .map((m) => ({ args: m[1]!.split(' '), output: m[2]! }))
  .filter(({ args }) => !args.some((each) => /^unix:|^[\da-f:]+\.\d$/i.test(each)));

/** The folder in which README's commands have the samples. */
const folder = /(\S*\/)hello-driver\.ts/.exec(commands.flatMap(({ args }) => args).join(' '))?.[1] ?? '';

export function typeSamples(project: Project): void {
  for (const { file, text } of samples) project.write(`${folder}${file}`, text);
  cpSync(join(project.folder, 'node_modules/vfio-ts/examples/machines'), join(project.folder, folder, 'machines'), { recursive: true });
}

/**
 * Each runs as typed.
 * @param loader of TypeScript for programs that README starts by themselves: `--import tsx`, or
 *   none
 */
export function checkSamples(project: Project, node: Node, loader: readonly string[], checks: Checks): void {
  checks.note('README has samples, and commands for them', samples.length >= 3 && commands.length > 0 ? null : 'none');
  for (const { args, output } of commands) {
    checks.runs(`${project.name}: Node ${node.major}: vfio ${args.join(' ')}`, project.vfio(node, ...args), output);
  }
  const machine = project.node(node, ...loader, `${folder}hello-machine.ts`);
  checks.runs(`${project.name}: Node ${node.major}: ${folder}hello-machine.ts`, machine, 'open: 3 again: -16');
}

/** Where neither Node nor tsx loads them, the command says what to type. */
export function checkRefusal(project: Project, node: Node, checks: Checks): void {
  const { args } = commands[0]!;
  checks.refuses(
    `${project.name}: Node ${node.major}: without tsx, vfio ${args[0]} names the command to type`,
    project.vfio(node, ...args),
    `Node ${node.major}.`,
    'npm install --save-dev tsx',
  );
}
