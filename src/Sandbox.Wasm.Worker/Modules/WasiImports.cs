using Sandbox.Wasm.Worker.Wasi;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Modules;

/// <summary>Whether what a module needs is what there is.</summary>
internal static class WasiImports
{
    /// <exception cref="ModuleException">It needs something else; the message names it.</exception>
    public static void Require(Module module, string name)
    {
        _ = WasiLinker.Instance;
        foreach (var import in module.Imports)
        {
            if (import is not FunctionImport || import.ModuleName != WasiLinker.Module || !WasiLinker.Names.Contains(import.Name))
            {
                var hint = import.ModuleName switch
                {
                    "wasi_unstable" => " It was built for a preview that came before WASI preview 1; build it for wasm32-wasip1.",
                    "wasi" or "wasi_snapshot_preview1" when import.Name.StartsWith("thread", StringComparison.Ordinal) => " Threads are not offered.",
                    "env" or "a" or "wasi_ephemeral_nn" or "go" or "gojs" => " It was built for another host, such as a browser; build it for wasm32-wasip1.",
                    _ => "",
                };
                throw new ModuleException($"{name} imports {Clip(import.ModuleName)}.{Clip(import.Name)}, which this sandbox does not offer: there is WASI preview 1 (wasi_snapshot_preview1) and nothing else.{hint}");
            }
        }
    }

    private static string Clip(string text) => text.Length > 100 ? text[..100] : text;
}
