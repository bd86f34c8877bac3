// Bundles the page into the package (worker/greenroom/embedded/static), or with --test its tests into build/test.
import { cp, mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const common = { absWorkingDir: here, bundle: true, format: "esm", logLevel: "warning" };

async function page() {
  const target = join(here, "../worker/greenroom/embedded/static");
  await rm(target, { recursive: true, force: true });
  await mkdir(target, { recursive: true });
  await build({
    ...common,
    entryPoints: { page: "src/main.ts", style: "src/style.css" },
    outdir: target,
    target: ["chrome111", "firefox115", "safari16.4"],
    minify: true,
    legalComments: "linked",
  });
  for (const name of ["index.html", "icon.svg"]) await cp(join(here, "src", name), join(target, name));
}

async function tests() {
  const names = (await readdir(join(here, "test"))).filter((name) => name.endsWith(".test.ts"));
  await rm(join(here, "build"), { recursive: true, force: true });
  await build({
    ...common,
    entryPoints: names.map((name) => join("test", name)),
    outdir: "build/test",
    outExtension: { ".js": ".mjs" },
    platform: "node",
    target: "node20",
  });
}

await (process.argv.includes("--test") ? tests() : page());
