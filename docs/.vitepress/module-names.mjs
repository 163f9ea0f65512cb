// typedoc plugin: modules bear the name one imports, not the place of their source: "backend-wasm/src" is "@doge-lm/wasm".
import { Converter, ReflectionKind } from "typedoc";

export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const module of project.getReflectionsByKind(ReflectionKind.Module)) {
      module.name = module.name.replace(/^(?:backend-)?([\w-]+)\/src/, "$1");
    }
  });
}
