using Sandbox.Isolation.Images;

namespace Sandbox.Bench.Benches;

/// <summary>What all benches of a run share: where images are, how much to measure, where to say how far they are.</summary>
internal sealed record BenchContext
{
    /// <summary>Template that is measured.</summary>
    public const string Template = "python";

    /// <summary>Root of the guest images.</summary>
    public required string ImageRoot { get; init; }

    /// <summary><c>auto</c>, <c>kvm</c> or <c>tcg</c>.</summary>
    public string Accelerator { get; init; } = "auto";

    /// <summary>Samples, where the caller wants another number than the bench's own.</summary>
    public int? Samples { get; init; }

    /// <summary>Sessions of the control bench.</summary>
    public int Sessions { get; init; } = 10_000;

    /// <summary>One bench of many: those whose own number of samples takes minutes take fewer, so that all of them stay within a quarter of an hour.</summary>
    public bool OneOfAll { get; init; }

    /// <summary>Also the sizes that take long.</summary>
    public bool Full { get; init; }

    /// <summary>Print where the time goes inside the server.</summary>
    public bool Profile { get; init; }

    /// <summary>Says how far it is, to people, on standard error.</summary>
    public required Action<string> Say { get; init; }

    /// <summary>Directory of the image that is measured.</summary>
    /// <exception cref="BenchException">There is none.</exception>
    public string Image => new ImageStore(ImageRoot).FindCurrent(Template)
        ?? throw new BenchException($"there is no guest image '{Template}' in {ImageRoot}; scripts/bench builds it, or: sandbox image build");

    /// <summary>How many samples to take.</summary>
    public int SamplesOr(int usual) => Samples ?? usual;
}
