using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>Scripts that are part of this program.</summary>
internal static class Scripts
{
    /// <summary>Where Python finds them.</summary>
    public const string Directory = "/.sandbox";

    public static string Bootstrap { get; } = System.Text.Encoding.UTF8.GetString(Read("bootstrap.js"));

    /// <summary>A file system with those for Python.</summary>
    public static SessionVolume Volume { get; } = SessionVolume.Fixed(("driver.py", Read("driver.py")), ("sitecustomize.py", Read("sitecustomize.py")));

    private static byte[] Read(string name)
    {
        using var stream = typeof(Scripts).Assembly.GetManifestResourceStream(name)!;
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }
}
