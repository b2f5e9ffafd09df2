/**
 * The NVMe driver and the life of its process: waits keep the process alive, idle drivers do not.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { typescript } from './kit/typescript.ts';

const door = (name: string) => pathToFileURL(join(import.meta.dirname, `../src/doors/${name}.ts`)).href;

/**
 * The output of a program that opens a disk with 50 ms for each command. It fails when it has not
 * ended after a minute.
 */
function run(interrupts: string, body: string): Promise<string> {
  const program = `import { open } from '${door('index')}';
    import { NvmeDriver } from '${door('nvme')}';
    const driver = await NvmeDriver.start(await open('sim:nvme,size=16M,latencyMs=50'), { interrupts: '${interrupts}' });
    const ns = driver.namespace(1);
    ${body}`;
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [...typescript, '--input-type=module', '-e', program], (error, out, err) => {
      if (error === null) resolve(out + err);
      else reject(new Error(`${error.message}\n${err}`));
    });
  });
}

it.each(['msix', 'intx', 'poll'])('a program stays for a command, and ends when it is done: %s', async (interrupts) => {
  expect(await run(interrupts, `ns.read(0, 1).then((data) => console.log('read', data.length));`)).toBe('read 512\n');
});

it('a program that closes the driver ends, also with commands in flight', async () => {
  const body = `ns.flush().then(() => console.log('flushed')); await driver.close(); console.log(driver.state);`;
  expect(await run('msix', body)).toBe('flushed\nclosed\n');
});
